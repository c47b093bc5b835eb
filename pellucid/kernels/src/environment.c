#include "kernels.h"

#if X86
#include <immintrin.h>
environment environment_enter(void) {
    environment before = _mm_getcsr();
    _mm_setcsr(0x1f80); /* Round to nearest, no flush to zero, no denormals as zero, exceptions masked. */
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
