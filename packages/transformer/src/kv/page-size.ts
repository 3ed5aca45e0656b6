/** Entries of a page of the caches that models make. */
export const pageSize = 64;
