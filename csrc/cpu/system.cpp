#include "system.h"

#include <new>

#if defined(_WIN32)
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace diffwave::system {

#if defined(_WIN32)

void* map_pages(size_t bytes) {
  void* const pages = VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
  if (!pages) throw std::bad_alloc();
  return pages;
}

void unmap_pages(void* pages, size_t) { VirtualFree(pages, 0, MEM_RELEASE); }

size_t page_size() {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwPageSize;
}

void protect_page(void* page) {
  DWORD before;
  if (!VirtualProtect(page, page_size(), PAGE_NOACCESS, &before)) throw std::bad_alloc();
}

int64_t process_number() { return GetCurrentProcessId(); }

#else

void* map_pages(size_t bytes) {
  void* const pages = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  madvise(pages, bytes, MADV_HUGEPAGE);
#endif
  return pages;
}

void unmap_pages(void* pages, size_t bytes) { munmap(pages, bytes); }

size_t page_size() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

void protect_page(void* page) {
  if (mprotect(page, page_size(), PROT_NONE) != 0) throw std::bad_alloc();
}

int64_t process_number() { return getpid(); }

#endif

}  // namespace diffwave::system
