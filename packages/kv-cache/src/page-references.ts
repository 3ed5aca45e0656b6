/** Which pages of a pool are in use, and by how many. */
export class PageReferences {
  readonly #references: Int32Array;
  readonly #free: number[];

  /** All of them free; the lowest is taken first. */
  constructor(pages: number) {
    this.#references = new Int32Array(pages);
    this.#free = Array.from({ length: pages }, (_, index) => pages - 1 - index);
  }

  /** Free pages. */
  get free(): number {
    return this.#free.length;
  }

  /** A free page, which there must be. */
  take(): number {
    const page = this.#free.pop() ?? 0;
    this.#references[page] = 1;
    return page;
  }

  retain(page: number): void {
    this.#references[page]++;
  }

  /** Whether the page is free now. */
  release(page: number): boolean {
    this.#references[page]--;
    if (this.#references[page] > 0) return false;
    this.#free.push(page);
    return true;
  }

  /** How many use a page; 0 where there is no such page. */
  count(page: number): number {
    return page in this.#references ? this.#references[page] : 0;
  }
}
