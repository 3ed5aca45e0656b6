import { FiligreeError } from '@filigree/core-tensor';

/** The page pool is full: the cache was made for fewer entries than are being appended. */
export class KvCapacityError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('KV_CAPACITY', message, options);
  }
}

/** A cache is to go back to where it was before entries were evicted, which are gone. */
export class TruncateBelowFloorError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('TRUNCATE_BELOW_FLOOR', message, options);
  }
}

/** A file is not a saved cache, or one of a version, of sizes or with contents that cannot be. */
export class KvFormatError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('KV_FORMAT', message, options);
  }
}

/** A saved cache is of another model, or has layers or numbers other than those asked for. */
export class KvMismatchError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('KV_MISMATCH', message, options);
  }
}

/** Where a saved cache is damaged. */
export interface KvDamage {
  readonly kind: 'truncated' | 'checksum';
  readonly layer: number;
  /** Of caches whose heads keep different entries. */
  readonly head?: number | undefined;
  /** Index of the page among those of the layer or head. */
  readonly page: number;
}

/** A page of a saved cache is missing, or its checksum is another; all pages before it are intact. */
export class KvCorruptError extends FiligreeError implements KvDamage {
  readonly kind: KvDamage['kind'];
  readonly layer: number;
  readonly head: number | undefined;
  readonly page: number;

  constructor(file: string, { kind, layer, head, page }: KvDamage, advice: string) {
    const place = `page ${page} of ${head === undefined ? '' : `head ${head} of `}layer ${layer}`;
    const what = kind === 'truncated' ? `the file ends before ${place}` : `the checksum of ${place} is wrong`;
    super('KV_CORRUPT', `${file}: ${what}; ${advice}`);
    this.kind = kind;
    this.layer = layer;
    this.head = head;
    this.page = page;
  }
}
