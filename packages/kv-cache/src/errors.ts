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
