#include "kernels.h"
#if X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,fma")
#endif
#define ISA_AVX512
#define TABLE operations_avx512
#define TABLE_NAME "avx512"
#include "body.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
