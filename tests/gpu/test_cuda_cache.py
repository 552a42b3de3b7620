"""Compiled CUDA kernels on disk (kernels/cuda/cache.py)."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

pytest.importorskip("triton")
pytest.importorskip("cuda.bindings.nvrtc")

import engine
from engine.kernels.cuda import build, cache
from engine.kernels.cuda.cache import Code
from tests.support.paths import ROOT

pytestmark = pytest.mark.skipif(build.obstacle() is not None, reason=str(build.obstacle()))

CODE = Code("ptx\n", b"\0cubin\n\xff", "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads, é\n")
SPILLED = CODE._replace(log="8 bytes stack frame, 24 bytes spill stores, 24 bytes spill loads")
SOURCE = 'extern "C" __global__ void empty(float* x) { x[threadIdx.x] = N; }'


@dataclass(frozen=True)
class Kernel(build.CudaKernel):
    """A kernel that NVRTC compiles in no time."""

    text: str = SOURCE

    def source(self):
        return self.text


def kernel(n=1, text=SOURCE, headers=()):
    return Kernel("empty", "cuda", None, (("N", n),), 32, 0, headers, text=text)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return the folder of the entries, in an empty cache."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    monkeypatch.delenv("TRITON_ALWAYS_COMPILE", raising=False)
    build._compiled.cache_clear()
    yield tmp_path / "triton" / cache.FOLDER
    build._compiled.cache_clear()


@pytest.fixture
def compiled(monkeypatch):
    """Return a list of the names of the sources that NVRTC compiles."""
    names, original = [], build._compile
    build._compiler()
    monkeypatch.setattr(build, "_compile", lambda *parts: names.append(parts[1]) or original(*parts))
    return names


def compile_anew(kernel, capability=80):
    """Compile as a new process does."""
    build._compiled.cache_clear()
    return kernel.compile(capability)


def test_a_kernel_is_compiled_once(place, compiled):
    first, second = compile_anew(kernel()), compile_anew(kernel())
    assert first == second and first.asm["cubin"].startswith(b"\x7fELF") and ".target sm_80" in first.asm["ptx"]
    assert compiled == ["empty.cu"] and len(list(place.iterdir())) == 1


def test_processes_share_their_kernels(place):
    program = (
        "from engine.kernels.cuda import build; from tests.gpu.test_cuda_cache import kernel;"
        "build._compiler(); original = build._compile;"
        "build._compile = lambda *parts: print('compiles') or original(*parts);"
        "print(len(kernel().compile(80).asm['cubin']))"
    )

    def run(_):
        return subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)

    first, second = (run(i).stdout.splitlines() for i in range(2))
    assert first[0] == "compiles" and second == first[1:]


@pytest.mark.parametrize(
    "other",
    [kernel(2), kernel(text=SOURCE + " "), kernel(headers=(("a.h", "int a;"),)), kernel(headers=(("b.h", "int a;"),))],
)
def test_the_key_contains_everything_that_is_compiled(place, compiled, other):
    for item in (kernel(), other, kernel(), other):
        compile_anew(item)
    assert len(compiled) == len(list(place.iterdir())) == 2


def test_the_key_contains_the_gpu_the_build_of_the_compiler_and_the_layout(place, compiled, monkeypatch):
    compile_anew(kernel(), 80)
    assert ".target sm_90" in compile_anew(kernel(), 90).asm["ptx"]
    assert "Cuda compilation tools" in build._compiler() and "V" + build.version() in build._compiler()
    monkeypatch.setattr(build, "_compiler", lambda: "another build of the same version")
    compile_anew(kernel(), 90)
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    compile_anew(kernel(), 90)
    assert len(compiled) == len(list(place.iterdir())) == 4


def test_a_damaged_entry_counts_as_absent(place):
    key = cache.key_of("a")
    cache.store(key, CODE)
    whole = (place / key).read_bytes()
    assert cache.load(key) == CODE
    damaged = [whole[:size] for size in range(len(whole))]
    damaged += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    for content in [*damaged, whole + b"\0", b"\0" * len(whole)]:
        (place / key).write_bytes(content)
        assert cache.load(key) is None
    (place / cache.key_of("b")).write_bytes(whole)
    assert cache.load(cache.key_of("b")) is None  # undamaged, and of another kernel
    cache.store(key, CODE)
    assert cache.load(key) == CODE


def test_a_damaged_kernel_is_compiled_again(place, compiled):
    first = compile_anew(kernel())
    [entry] = place.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-100])
    assert compile_anew(kernel()) == first and len(compiled) == 2
    assert cache.load(entry.name).cubin == first.asm["cubin"]
    assert compile_anew(kernel()) == first and len(compiled) == 2


def test_code_that_spills_is_refused_from_the_cache_too(place, monkeypatch):
    monkeypatch.setattr(build, "_compile", lambda *parts: SPILLED)
    for _ in range(2):
        with pytest.raises(engine.UnavailableError, match="compiles 'sm_80' with 24 bytes of local memory a thread"):
            compile_anew(kernel())
        monkeypatch.delattr(build, "_compile", raising=False)  # it is read the second time
    assert len(list(place.iterdir())) == 1


def test_errors_of_the_source_are_not_kept(place, compiled):
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"empty\.cu: .*error"):
            compile_anew(kernel(text="no CUDA"))
    assert len(compiled) == 2 and not place.exists()


@pytest.mark.parametrize("folder", ["file", "~", "~/cache", "/proc/none", "\0"])
def test_a_folder_that_cannot_be_used_is_no_error(place, compiled, tmp_path, monkeypatch, folder):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    if folder == "\0":
        monkeypatch.setattr(cache, "replacing", full_disk)
    else:
        monkeypatch.setenv("TRITON_CACHE_DIR", folder)
    assert compile_anew(kernel()) == compile_anew(kernel())
    assert len(compiled) == 2
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "file"]
    assert not (tmp_path / "~").exists()


def full_disk(path):
    raise OSError(28, "No space left on device")


def test_a_folder_that_is_only_read_is_read(place, compiled, monkeypatch):
    compile_anew(kernel())
    for name in ("mkdir", "utime"):
        monkeypatch.setattr(os, name, full_disk)
    compile_anew(kernel())
    assert len(compiled) == 1


def test_it_can_be_turned_off(place, compiled, monkeypatch):
    monkeypatch.setenv("TRITON_ALWAYS_COMPILE", "1")
    assert compile_anew(kernel()) == compile_anew(kernel())
    assert len(compiled) == 2 and not place.exists()


def test_its_size_is_limited_and_what_is_used_stays(place, monkeypatch):
    keys = [cache.key_of(i) for i in range(6)]
    cache.store(keys[0], CODE)
    monkeypatch.setattr(cache, "MOST_BYTES", 3 * (place / keys[0]).stat().st_size)
    for age, key in enumerate(keys[:3]):
        cache.store(key, CODE)
        os.utime(place / key, (age + 1, age + 1))
    assert cache.load(keys[0])  # now the youngest
    cache.store(keys[3], CODE)
    assert {path.name for path in place.iterdir()} == {keys[2], keys[0], keys[3]}
    cache.store(keys[4], CODE._replace(cubin=bytes(1000)))  # does not fit
    assert cache.load(keys[4]) is None


def test_readers_and_writers_do_not_disturb_each_other(place, monkeypatch):
    """Entries are replaced and removed while they are read: each read gives a whole one or none."""
    codes = {cache.key_of(i): CODE._replace(cubin=bytes([i]) * 5000) for i in range(4)}
    monkeypatch.setattr(cache, "MOST_BYTES", 16000)

    def work(number):
        keys = list(codes)
        for i in range(100):
            key = keys[(i + number) % 4]
            cache.store(key, codes[key])
            assert cache.load(key) in (codes[key], None)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert 1 <= len(list(place.iterdir())) <= 4 and {path.name for path in place.iterdir()} <= set(codes)


def test_the_compiler_writes_into_no_shared_bytes():
    """Python shares all bytes of length one. An empty log is one."""
    program = "from engine.kernels.cuda import build; build._compiler(); print([bytes([i])[0] for i in range(256)])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == f"{list(range(256))}\n"
