import { DeviceLostError, DisposedError, ExecutionError, FiligreeError } from '@filigree/core-tensor';

/** Waits for a device that may be lost. */
export class DeviceWatch {
  #lost: DeviceLostError | undefined;
  /** Who waits for the device, to be told of its loss. A race with one promise of the loss would keep every wait there ever was. */
  readonly #waiting = new Set<(error: FiligreeError) => void>();

  constructor(
    device: GPUDevice,
    /** Whether the device is no longer of interest. */
    private readonly disposed: () => boolean,
  ) {
    void device.lost.then(({ reason, message }) => {
      if (disposed()) return;
      this.#lost = new DeviceLostError(
        `WebGPU: the device was lost (${reason}): ${message}; its tensors are gone, create the backend again`,
      );
      for (const reject of this.#waiting) reject(this.#lost);
      this.#waiting.clear();
    });
  }

  get lost(): DeviceLostError | undefined {
    return this.#lost;
  }

  /** The result, or DeviceLostError when the device is lost first. */
  orLost<T>(work: Promise<T>): Promise<T> {
    if (this.#lost) return Promise.reject(this.#lost);
    return new Promise((resolve, reject) => {
      this.#waiting.add(reject);
      void work
        .then(resolve, (error: unknown) => {
          if (error instanceof FiligreeError) reject(error);
          else void this.#explained(error).then(reject);
        })
        .finally(() => this.#waiting.delete(reject));
    });
  }

  /** What a failed wait of the device means: the loss of the device fails what is in progress, sometimes before it is announced. */
  async #explained(error: unknown): Promise<FiligreeError> {
    if (this.disposed())
      return new DisposedError('WebGPU: the backend was disposed while its device was waited for', { cause: error });
    await new Promise((resolve) => setTimeout(resolve, 0));
    return (
      this.#lost ?? new ExecutionError(`webgpu: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
    );
  }
}
