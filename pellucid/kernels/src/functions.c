/* Functions of f64 that libraries round differently, the rotary table, initial values: sections 1
   and 2.1. */

#include <string.h>

#include "kernels.h"

static double from_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, 8);
    return x;
}

static uint64_t to_bits(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    return bits;
}

double pellucid_sqrt(double x) { return __builtin_sqrt(x); /* One instruction: -fno-math-errno. */ }

double pellucid_ln(double x) {
    if (!(x >= DBL_MIN && x <= DBL_MAX)) return x - x + (0.0 / 0.0);
    uint64_t bits = to_bits(x);
    double e = (double)((int64_t)(bits >> 52) - 1023);
    double m = from_bits((bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL);
    if (m > 0x1.6a09e667f3bcdp+0) m = m * 0.5, e = e + 1.0;
    double f = (m - 1.0) / (m + 1.0), z = f * f, q = 0.0;
    for (int k = 21; k >= 3; k -= 2) q = (1.0 / k + q) * z;
    double f2 = 2.0 * f;
    return e * 0x1.62e42feep-1 + (f2 + (f2 * q + e * 0x1.a39ef35793c76p-33));
}

static double floor_(double x) {
    double whole = (double)(int64_t)x; /* |x| is below 2^52 here. */
    return whole > x ? whole - 1.0 : whole;
}

double pellucid_exp(double x) {
    if (!(x >= -700.0 && x <= 700.0)) return 0.0 / 0.0;
    double n = floor_(x * 0x1.71547652b82fep+0 + 0.5);
    double r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33, s = 1.0;
    for (int k = 13; k >= 1; k--) s = 1.0 + (r * s) / k;
    return s * from_bits((uint64_t)((int64_t)n + 1023) << 52);
}

void pellucid_sincos(double a, double *sine, double *cosine) {
    static const double odd[] = {355687428096000.0, 1307674368000.0, 6227020800.0, 39916800.0,
                                 362880.0,          5040.0,          120.0,        6.0};
    /* clang-format off */
    static const double even[] = {
        6402373705728000.0, 20922789888000.0, 87178291200.0, 479001600.0, 3628800.0,
        40320.0, 720.0, 24.0, 2.0,
    };
    /* clang-format on */
    double n = floor_(a * 0x1.45f306dc9c883p-1 + 0.5);
    double r = ((a - n * 0x1.921fb544p+0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69,
           z = r * r;
    double q = 0.0;
    for (int i = 0; i < 8; i++) q = (1.0 / odd[i] - q) * z;
    double sn = r - r * q;
    q = 0.0;
    for (int i = 0; i < 9; i++) q = (1.0 / even[i] - q) * z;
    double cs = 1.0 - q;
    switch ((int64_t)n & 3) {
    case 0: *sine = sn, *cosine = cs; break;
    case 1: *sine = cs, *cosine = -sn; break;
    case 2: *sine = -sn, *cosine = -cs; break;
    default: *sine = -cs, *cosine = sn;
    }
}

double pellucid_power(double base, int64_t exponent) {
    double y = 1.0;
    while (exponent > 0) {
        if (exponent & 1) y = y * base;
        exponent >>= 1;
        if (exponent > 0) base = base * base;
    }
    return y;
}

/* Sums joined in the fixed binary tree: the first half is the largest power of two below n. Changes
   sums. */
double pellucid_tree(double *sums, long n) {
    double peaks[64];
    int top = 0;
    for (long i = 0; i < n; i++) {
        double carry = sums[i];
        for (long bits = i; bits & 1; bits >>= 1) carry = peaks[--top] + carry;
        peaks[top++] = carry;
    }
    double total = peaks[--top];
    while (top) total = peaks[--top] + total;
    return total;
}

void pellucid_rotary(long length, long width, double theta, float *cos, float *sin) {
    long half = width / 2;
    double log_theta = pellucid_ln(theta);
    for (long i = 0; i < half; i++) {
        float frequency = (float)pellucid_exp(-((double)(2 * i) / (double)width) * log_theta);
        for (long t = 0; t < length; t++) {
            double sine, cosine;
            float angle = (float)t * frequency;
            pellucid_sincos((double)angle, &sine, &cosine);
            cos[t * half + i] = (float)cosine;
            sin[t * half + i] = (float)sine;
        }
    }
}

static void philox(uint64_t key, uint64_t counter, uint32_t out[4]) {
    uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)c[0] * 0xD2511F53u, p1 = (uint64_t)c[2] * 0xCD9E8D57u;
        uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k0, (uint32_t)p1,
                            (uint32_t)(p0 >> 32) ^ c[3] ^ k1, (uint32_t)p0};
        memcpy(c, next, sizeof c);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

/* Draws start … start+n-1 under a key as uniform values in (-1, 1), times scale, rounded to f32. */
void pellucid_initial(uint64_t key, long start, long n, double scale, float *out) {
    uint32_t words[4] = {0};
    for (long i = 0; i < n; i++) {
        uint64_t index = (uint64_t)(start + i);
        if (i == 0 || index % 4 == 0) philox(key, index / 4, words);
        int64_t k = words[index % 4] >> 8;
        double u = (double)(2 * k + 1 - (1 << 24)) * 0x1p-24;
        out[i] = (float)(u * scale);
    }
}
