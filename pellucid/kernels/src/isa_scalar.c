/* C without intrinsics, for a CPU with the fused multiply-add instruction. */
#include "kernels.h"
#if X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("fma"))), apply_to = function)
#else
#pragma GCC target("fma")
#endif
#endif
#if X86 || ARM
#define HARDWARE_FMA
#endif
#define TABLE operations_scalar
#define TABLE_NAME "scalar"
#include "body.h"
#if X86 && defined(__clang__)
#pragma clang attribute pop
#endif
