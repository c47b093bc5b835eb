/* Sixteen floats at once, v16, and sixteen doubles' sums, w16, for the instruction set that isa_*.c
   has chosen. Every function is one IEEE operation a lane, or a select; nothing here adds across
   lanes.

   TILE_ROWS rows of TILE_VECTORS vectors are what a product's inner loop keeps in registers. */

#include <string.h>

#define INLINE static inline __attribute__((always_inline))

#if defined(ISA_AVX512)
#include <immintrin.h>
#define TILE_ROWS 12
#define TILE_VECTORS 2
typedef __m512 v16;
typedef struct {
    __m512d low, high;
} w16;

INLINE v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, v16 x) { _mm512_storeu_ps(p, x); }
INLINE v16 v_set(float x) { return _mm512_set1_ps(x); }
INLINE v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
INLINE v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
INLINE v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
INLINE v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
INLINE v16 v_sqrt(v16 a) { return _mm512_sqrt_ps(a); }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE v16 v_fnma(v16 a, v16 b, v16 c) { return _mm512_fnmadd_ps(a, b, c); }
INLINE v16 v_max(v16 x, v16 m) { return _mm512_max_ps(x, m); }
INLINE v16 v_abs(v16 a) { return _mm512_abs_ps(a); }
INLINE v16 v_neg(v16 a) {
    return _mm512_castsi512_ps(
        _mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32((int)0x80000000)));
}
INLINE v16 v_less(v16 a, v16 b, v16 yes, v16 no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
INLINE v16 v_number(v16 a, v16 yes) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, yes);
}
INLINE v16 v_times_power(v16 p, v16 n) {
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(n), 23)));
}
INLINE w16 w_zero(void) { return (w16){_mm512_setzero_pd(), _mm512_setzero_pd()}; }
INLINE w16 w_add_squares(w16 s, v16 x) {
    __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
    __m512d high =
        _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1)));
    return (w16){_mm512_add_pd(s.low, _mm512_mul_pd(low, low)),
                 _mm512_add_pd(s.high, _mm512_mul_pd(high, high))};
}
INLINE void w_store(double *p, w16 s) {
    _mm512_storeu_pd(p, s.low), _mm512_storeu_pd(p + 8, s.high);
}

#elif defined(ISA_AVX2)
#include <immintrin.h>
#define TILE_ROWS 6
#define TILE_VECTORS 1
typedef struct {
    __m256 a, b;
} v16;
typedef struct {
    __m256d q[4];
} w16;

INLINE v16 v_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE void v_store(float *p, v16 x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
INLINE v16 v_set(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE v16 v_add(v16 a, v16 b) { return (v16){_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)}; }
INLINE v16 v_sub(v16 a, v16 b) { return (v16){_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)}; }
INLINE v16 v_mul(v16 a, v16 b) { return (v16){_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)}; }
INLINE v16 v_div(v16 a, v16 b) { return (v16){_mm256_div_ps(a.a, b.a), _mm256_div_ps(a.b, b.b)}; }
INLINE v16 v_sqrt(v16 a) { return (v16){_mm256_sqrt_ps(a.a), _mm256_sqrt_ps(a.b)}; }
INLINE v16 v_fma(v16 a, v16 b, v16 c) {
    return (v16){_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)};
}
INLINE v16 v_fnma(v16 a, v16 b, v16 c) {
    return (v16){_mm256_fnmadd_ps(a.a, b.a, c.a), _mm256_fnmadd_ps(a.b, b.b, c.b)};
}
INLINE v16 v_max(v16 x, v16 m) { return (v16){_mm256_max_ps(x.a, m.a), _mm256_max_ps(x.b, m.b)}; }
INLINE v16 v_abs(v16 a) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, a.a), _mm256_andnot_ps(sign, a.b)};
}
INLINE v16 v_neg(v16 a) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_xor_ps(sign, a.a), _mm256_xor_ps(sign, a.b)};
}
INLINE v16 v_less(v16 a, v16 b, v16 yes, v16 no) {
    return (v16){_mm256_blendv_ps(no.a, yes.a, _mm256_cmp_ps(a.a, b.a, _CMP_LT_OQ)),
                 _mm256_blendv_ps(no.b, yes.b, _mm256_cmp_ps(a.b, b.b, _CMP_LT_OQ))};
}
INLINE v16 v_number(v16 a, v16 yes) {
    return (v16){_mm256_blendv_ps(a.a, yes.a, _mm256_cmp_ps(a.a, a.a, _CMP_ORD_Q)),
                 _mm256_blendv_ps(a.b, yes.b, _mm256_cmp_ps(a.b, a.b, _CMP_ORD_Q))};
}
INLINE __m256 times_power(__m256 p, __m256 n) {
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(n), 23)));
}
INLINE v16 v_times_power(v16 p, v16 n) {
    return (v16){times_power(p.a, n.a), times_power(p.b, n.b)};
}
INLINE w16 w_zero(void) {
    __m256d zero = _mm256_setzero_pd();
    return (w16){{zero, zero, zero, zero}};
}
INLINE __m256d add_squares(__m256d s, __m128 x) {
    __m256d wide = _mm256_cvtps_pd(x);
    return _mm256_add_pd(s, _mm256_mul_pd(wide, wide));
}
INLINE w16 w_add_squares(w16 s, v16 x) {
    return (w16){{add_squares(s.q[0], _mm256_castps256_ps128(x.a)),
                  add_squares(s.q[1], _mm256_extractf128_ps(x.a, 1)),
                  add_squares(s.q[2], _mm256_castps256_ps128(x.b)),
                  add_squares(s.q[3], _mm256_extractf128_ps(x.b, 1))}};
}
INLINE void w_store(double *p, w16 s) {
    for (int i = 0; i < 4; i++) _mm256_storeu_pd(p + 4 * i, s.q[i]);
}

#elif defined(ISA_NEON)
#include <arm_neon.h>
#define TILE_ROWS 6
#define TILE_VECTORS 1
typedef float32x4x4_t v16;
typedef struct {
    float64x2_t q[8];
} w16;

#define FOUR(expression)                                                                           \
    v16 out;                                                                                       \
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) out.val[i] = (expression);                 \
    return out;
INLINE v16 v_load(const float *p) { FOUR(vld1q_f32(p + 4 * i)) }
INLINE void v_store(float *p, v16 x) {
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, x.val[i]);
}
INLINE v16 v_set(float x) { FOUR(vdupq_n_f32(x)) }
INLINE v16 v_add(v16 a, v16 b) { FOUR(vaddq_f32(a.val[i], b.val[i])) }
INLINE v16 v_sub(v16 a, v16 b) { FOUR(vsubq_f32(a.val[i], b.val[i])) }
INLINE v16 v_mul(v16 a, v16 b) { FOUR(vmulq_f32(a.val[i], b.val[i])) }
INLINE v16 v_div(v16 a, v16 b) { FOUR(vdivq_f32(a.val[i], b.val[i])) }
INLINE v16 v_sqrt(v16 a) { FOUR(vsqrtq_f32(a.val[i])) }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { FOUR(vfmaq_f32(c.val[i], a.val[i], b.val[i])) }
INLINE v16 v_fnma(v16 a, v16 b, v16 c) { FOUR(vfmsq_f32(c.val[i], a.val[i], b.val[i])) }
INLINE v16 v_max(v16 x, v16 m) {
    FOUR(vbslq_f32(vcgtq_f32(x.val[i], m.val[i]), x.val[i], m.val[i]))
}
INLINE v16 v_abs(v16 a) { FOUR(vabsq_f32(a.val[i])) }
INLINE v16 v_neg(v16 a) { FOUR(vnegq_f32(a.val[i])) }
INLINE v16 v_less(v16 a, v16 b, v16 yes, v16 no) {
    FOUR(vbslq_f32(vcltq_f32(a.val[i], b.val[i]), yes.val[i], no.val[i]))
}
INLINE v16 v_number(v16 a, v16 yes) {
    FOUR(vbslq_f32(vceqq_f32(a.val[i], a.val[i]), yes.val[i], a.val[i]))
}
INLINE v16 v_times_power(v16 p, v16 n) {
    FOUR(vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(p.val[i]),
                                         vshlq_n_u32(vreinterpretq_u32_f32(n.val[i]), 23))))
}
INLINE w16 w_zero(void) {
    w16 out;
    for (int i = 0; i < 8; i++) out.q[i] = vdupq_n_f64(0.0);
    return out;
}
INLINE w16 w_add_squares(w16 s, v16 x) {
    for (int i = 0; i < 4; i++) {
        float64x2_t low = vcvt_f64_f32(vget_low_f32(x.val[i])), high = vcvt_high_f64_f32(x.val[i]);
        s.q[2 * i] = vaddq_f64(s.q[2 * i], vmulq_f64(low, low));
        s.q[2 * i + 1] = vaddq_f64(s.q[2 * i + 1], vmulq_f64(high, high));
    }
    return s;
}
INLINE void w_store(double *p, w16 s) {
    for (int i = 0; i < 8; i++) vst1q_f64(p + 2 * i, s.q[i]);
}

#else /* C without intrinsics; with HARDWARE_FMA where the instruction is known to be there. */
#define TILE_ROWS 4
#define TILE_VECTORS 1
typedef struct {
    float f[16];
} v16;
typedef struct {
    double f[16];
} w16;

#if defined(HARDWARE_FMA)
INLINE float fma_lane(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#else
/* One rounding from the usual operations: the product is exact in double; the sum is rounded to odd
   (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE TC 2008), so that the
   last rounding, to float, is that of the exact value. Written without branches, for the compiler
   to vectorise. */
INLINE float fma_lane(float a, float b, float c) {
    double product = (double)a * (double)b, addend = (double)c, sum = product + addend;
    /* TwoSum: exact. */
    double back = sum - product, error = (product - (sum - back)) + (addend - back);
    int64_t bits, error_bits;
    memcpy(&bits, &sum, 8);
    memcpy(&error_bits, &error, 8);
    int64_t finite = (bits & 0x7ff0000000000000LL) != 0x7ff0000000000000LL;
    int64_t inexact = (error_bits & 0x7fffffffffffffffLL) != 0;
    int64_t even = ~bits & 1;
    /* All ones where the exact sum is nearer to zero. */
    int64_t nearer = -(int64_t)((error_bits < 0) != (bits < 0));
    bits += ((finite & inexact & even) ^ nearer) - nearer;
    memcpy(&sum, &bits, 8);
    return (float)sum;
}
#endif

#define SIXTEEN(expression)                                                                        \
    v16 out;                                                                                       \
    for (int i = 0; i < 16; i++) out.f[i] = (expression);                                          \
    return out;
INLINE v16 v_load(const float *p) {
    v16 out;
    memcpy(&out, p, sizeof out);
    return out;
}
INLINE void v_store(float *p, v16 x) { memcpy(p, &x, sizeof x); }
INLINE v16 v_set(float x) { SIXTEEN(x) }
INLINE v16 v_add(v16 a, v16 b) { SIXTEEN(a.f[i] + b.f[i]) }
INLINE v16 v_sub(v16 a, v16 b) { SIXTEEN(a.f[i] - b.f[i]) }
INLINE v16 v_mul(v16 a, v16 b) { SIXTEEN(a.f[i] * b.f[i]) }
INLINE v16 v_div(v16 a, v16 b) { SIXTEEN(a.f[i] / b.f[i]) }
INLINE v16 v_sqrt(v16 a) { SIXTEEN(__builtin_sqrtf(a.f[i])) }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { SIXTEEN(fma_lane(a.f[i], b.f[i], c.f[i])) }
INLINE v16 v_fnma(v16 a, v16 b, v16 c) { SIXTEEN(fma_lane(-a.f[i], b.f[i], c.f[i])) }
INLINE v16 v_max(v16 x, v16 m) { SIXTEEN(x.f[i] > m.f[i] ? x.f[i] : m.f[i]) }
INLINE v16 v_abs(v16 a) { SIXTEEN(__builtin_fabsf(a.f[i])) }
INLINE v16 v_neg(v16 a) { SIXTEEN(-a.f[i]) }
INLINE v16 v_less(v16 a, v16 b, v16 yes, v16 no) { SIXTEEN(a.f[i] < b.f[i] ? yes.f[i] : no.f[i]) }
INLINE v16 v_number(v16 a, v16 yes) { SIXTEEN(a.f[i] == a.f[i] ? yes.f[i] : a.f[i]) }
INLINE v16 v_times_power(v16 p, v16 n) {
    v16 out;
    uint32_t bits[16], power[16];
    memcpy(bits, &p, sizeof bits), memcpy(power, &n, sizeof power);
    for (int i = 0; i < 16; i++) bits[i] += power[i] << 23;
    memcpy(&out, bits, sizeof out);
    return out;
}
INLINE w16 w_zero(void) { return (w16){{0}}; }
INLINE w16 w_add_squares(w16 s, v16 x) {
    for (int i = 0; i < 16; i++) s.f[i] = s.f[i] + (double)x.f[i] * (double)x.f[i];
    return s;
}
INLINE void w_store(double *p, w16 s) { memcpy(p, &s, sizeof s); }
#endif

#define TILE_COLUMNS (16 * TILE_VECTORS)

INLINE v16 v_zero(void) { return v_set(0.0f); }

/* The first n of sixteen, the others +0. */
INLINE v16 v_load_first(const float *p, long n) {
    float some[LANES] = {0};
    memcpy(some, p, (size_t)n * sizeof *p);
    return v_load(some);
}
INLINE void v_store_first(float *p, v16 x, long n) {
    float some[LANES];
    v_store(some, x);
    memcpy(p, some, (size_t)n * sizeof *p);
}

/* The end of a lane sum: 8, 4, 2, 1. */
#define TREE(kind, store, x)                                                                       \
    kind f[LANES];                                                                                 \
    store(f, x);                                                                                   \
    for (int width = 8; width; width /= 2)                                                         \
        for (int i = 0; i < width; i++) f[i] = f[i] + f[i + width];                                \
    return f[0];
INLINE float v_tree(v16 x) { TREE(float, v_store, x) }
INLINE double w_tree(w16 x) { TREE(double, w_store, x) }
INLINE float v_largest(v16 x) {
    float f[LANES];
    v_store(f, x);
    float m = f[0];
    for (int i = 1; i < LANES; i++) m = f[i] > m ? f[i] : m;
    return m;
}

INLINE float fma_one(float a, float b, float c) {
#if defined(ISA_AVX512) || defined(ISA_AVX2)
    return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
#elif defined(ISA_NEON)
    return __builtin_fmaf(a, b, c);
#else
    return fma_lane(a, b, c);
#endif
}

/* exp of values that are not above zero; NaN stays NaN. */
INLINE v16 v_exp(v16 x) {
    v16 magic = v_set(0x1.8p+23f);
    v16 shifted = v_fma(x, v_set(0x1.715476p+0f), magic), n = v_sub(shifted, magic);
    v16 r = v_fma(n, v_set(0x1.05c61p-29f), v_fnma(n, v_set(0x1.62e43p-1f), x));
    v16 p = v_set(0x1.6a241ap-10f);
    p = v_fma(p, r, v_set(0x1.1239f2p-7f));
    p = v_fma(p, r, v_set(0x1.5558f2p-5f));
    p = v_fma(p, r, v_set(0x1.555492p-3f));
    p = v_fma(p, r, v_set(0x1.fffffcp-2f));
    p = v_fma(p, r, v_set(1.0f));
    p = v_fma(p, r, v_set(1.0f));
    p = v_less(x, v_set(-0x1.5d3334p+6f), v_zero(), v_times_power(p, shifted));
    return v_number(x, p);
}

INLINE v16 v_sigmoid(v16 x) {
    v16 one = v_set(1.0f), e = v_exp(v_neg(v_abs(x)));
    return v_div(v_less(x, v_zero(), e, one), v_add(one, e));
}
