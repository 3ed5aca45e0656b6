/** One thing at a time: what begins aborts what is under way and waits until it has let go of everything. */
export class Work {
  #current: { readonly controller: AbortController; readonly done: Promise<void> } | undefined;

  get running(): boolean {
    return this.#current !== undefined;
  }

  /** Runs `action`, which handles its own failures. */
  async begin(action: (signal: AbortSignal) => Promise<void>): Promise<void> {
    await this.stop();
    const controller = new AbortController();
    const done = action(controller.signal).finally(() => {
      this.#current = undefined;
    });
    this.#current = { controller, done };
    await done;
  }

  abort(): void {
    this.#current?.controller.abort();
  }

  async stop(): Promise<void> {
    while (this.#current) {
      this.#current.controller.abort();
      await this.#current.done;
    }
  }
}
