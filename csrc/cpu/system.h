// What the operating system provides: pages of memory, and the number of the process.
#pragma once

#include <cstddef>
#include <cstdint>

namespace diffwave::system {

// Zeroed pages, in huge pages where available. Throws std::bad_alloc.
void* map_pages(size_t bytes);
void unmap_pages(void* pages, size_t bytes);

size_t page_size();
// Makes a page inaccessible.
void protect_page(void* page);

// Differs in a forked child.
int64_t process_number();

}  // namespace diffwave::system
