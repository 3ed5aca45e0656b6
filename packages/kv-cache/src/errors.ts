import { FiligreeError } from '@filigree/core-tensor';

/** The page pool is full: the cache was made for fewer entries than are being appended. */
export class KvCapacityError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('KV_CAPACITY', message, options);
  }
}
