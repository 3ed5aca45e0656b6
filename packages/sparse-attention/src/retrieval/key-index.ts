/** What a search found, and what it took. */
export interface Found {
  /** Ids of keys, greatest product first. */
  readonly ids: Int32Array;
  /** Keys whose product was computed; centroids count as keys. */
  readonly visited: number;
}

/** Keys of one head that can be searched for the greatest products with a query. Ids are the order in which keys were added. */
export interface KeyIndex {
  readonly size: number;
  /** Adds keys [n, dim]. */
  add(keys: Float32Array): void;
  /** The `count` keys with the greatest products, or what the index takes for them; all keys when there are no more. */
  search(query: Float32Array, count: number): Found;
}

export const indexKinds = ['flat', 'ivf', 'graph'] as const;
export type IndexKind = (typeof indexKinds)[number];
