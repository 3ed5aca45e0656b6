/** Non-linear 4-bit levels of IQ4_NL and IQ4_XS. */
export const nonLinear = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/** E2M1 (FP4) values, doubled so that they are integers. */
export const e2m1Doubled = [0, 1, 2, 3, 4, 6, 8, 12, -0, -1, -2, -3, -4, -6, -8, -12];
