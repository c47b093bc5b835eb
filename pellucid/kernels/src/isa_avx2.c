#include "kernels.h"
#if X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define ISA_AVX2
#define TABLE operations_avx2
#define TABLE_NAME "avx2"
#include "body.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
