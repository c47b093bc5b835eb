/* The digests of arithmetic "portable 1", of what selftest.c computes. A change here is another
   arithmetic: docs/adr. */

/* One entry a line, as the tests read them. */
/* clang-format off */
static const struct golden quick_golden[] = {
    {"product", 0x5241abc75f0a2ab4},
    {"norm", 0x7ff475793adcc2d7},
    {"swiglu", 0xcd16c343c2d3ea81},
    {"attention", 0x029089e3199d802b},
    {"loss", 0xc2e1e0d7ccb4e845},
    {"embedding", 0x7b60eac40ca1f43d},
    {"update", 0x8a8e2e5257c6073d},
    {"functions", 0x9ea6f369c187dc57},
    {"axpby", 0xc57b4fc360653673},
    {"gram", 0x770d1ee5bb9bce4e},
    {"objective", 0xc154b7a1345fe420},
    {NULL, 0},
};
static const struct golden whole_golden[] = {
    {"product 1 1 1", 0x1bd072d361fe0a81},
    {"product 13 33 257", 0xb303eda046007cbb},
    {"product 97 130 513", 0xeb09dc82190342d2},
    {"norm 259 37", 0xb93d3198636b1f7a},
    {"norm 3 512", 0x96eeba9e729ebd80},
    {"swiglu", 0x26631b6f9396e052},
    {"attention", 0x952d25893b9bfb80},
    {"attention within", 0x08caa40727cf302b},
    {"attention wide", 0x85c20e1b967c4966},
    {"loss", 0xd05274bbc1873b8b},
    {"embedding", 0xdfe311833527c640},
    {"update", 0x2abfeb9854091f49},
    {"axpby", 0xfce1b4da0c63f0d6},
    {"gram", 0xd5b739754f539f69},
    {"objective", 0x209e3f79270955fe},
    {"product 1 1 1 extreme", 0x1bd072d361fe0a81},
    {"product 13 33 257 extreme", 0x752e9d6df966a136},
    {"product 97 130 513 extreme", 0x1c005424c1e85977},
    {"norm 259 37 extreme", 0x28854b172f3c3445},
    {"norm 3 512 extreme", 0x8dd6a9e5dccf7625},
    {"swiglu extreme", 0xefcc417fbc5f6bdf},
    {"attention extreme", 0xc1eadbd736e8ec2b},
    {"attention within extreme", 0x1a80213504e6f5ed},
    {"attention wide extreme", 0x29d4e0b1ea24c389},
    {"loss extreme", 0x685bdbd8d73e5d35},
    {"embedding extreme", 0x03c8fd821a71700a},
    {"update extreme", 0xdd3ee4d9a4bd2b52},
    {"axpby extreme", 0x2fc886e080a0fe24},
    {"gram extreme", 0x005450261283faa1},
    {"objective extreme", 0xae798a7a780cd1c5},
    {"functions", 0x9ea6f369c187dc57},
    {NULL, 0},
};
/* clang-format on */
