// Stands for the pyconfig.h of a 64-bit Windows installation of CPython while csrc is only compiled:
// csrc/tools/targets.py.
#pragma once
#define MS_WINDOWS
#define MS_WIN64
#define HAVE_STDDEF_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_WCHAR_H 1
#define HAVE_STRFTIME 1
#define HAVE_UINTPTR_T 1
#define SIZEOF_VOID_P 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_LONG 4
#define SIZEOF_LONG_LONG 8
#define SIZEOF_SHORT 2
#define SIZEOF_INT 4
#define SIZEOF_WCHAR_T 2
#define SIZEOF_TIME_T 8
#define SIZEOF_PID_T 4
#define ALIGNOF_SIZE_T 8
#define HAVE_DECLSPEC_DLL
typedef long long Py_ssize_t;
#define HAVE_PY_SSIZE_T 1
#define PY_SSIZE_T_MAX 9223372036854775807
#define NT_THREADS
#define WITH_THREAD
