/* The floating-point environment of a kernel: IEEE-754's defaults, whatever the caller's mode.

   A shared object that was built with -ffast-math sets flush-to-zero in the thread that loads it,
   and every thread started later inherits the mode. Half of a process's threads would then give
   other bits for denormals. Every call of ours, and every thread of the pool, therefore sets the
   mode itself and puts the caller's back. */

#include "kernels.h"

#if X86
#include <immintrin.h>
environment environment_enter(void) {
    environment before = _mm_getcsr();
    /* Round to nearest, no flush to zero, no denormals as zero, exceptions masked. */
    _mm_setcsr(0x1f80);
    return before;
}
void environment_leave(environment before) { _mm_setcsr((unsigned)before); }
#elif ARM
environment environment_enter(void) {
    environment before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((environment)0));
    return before;
}
void environment_leave(environment before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#else
#include <fenv.h>
/* fenv_t has a size of the platform's, so it stays here and not in `environment`. */
static _Thread_local fenv_t saved;
environment environment_enter(void) {
    fegetenv(&saved);
    fesetenv(FE_DFL_ENV);
    return 0;
}
void environment_leave(environment before) {
    (void)before;
    fesetenv(&saved);
}
#endif
