/** Every error Filigree throws on purpose. `code` is stable and machine-readable; `message` names the argument and says what to do. */
export class FiligreeError extends Error {
  /** Stable identifier, for example `SHAPE`. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** Shapes of arguments do not fit each other or the op. */
export class ShapeError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('SHAPE', message, options);
  }
}

/** An argument has an element type the op does not take. */
export class DTypeError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('DTYPE', message, options);
  }
}

/** An option or attribute is unknown, missing, of the wrong type or out of range. */
export class OptionError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('OPTION', message, options);
  }
}

/** A tensor or backend was used after `dispose()`. */
export class DisposedError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('DISPOSED', message, options);
  }
}

/** Tensors of different backends met in one op. */
export class BackendMismatchError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('BACKEND_MISMATCH', message, options);
  }
}

/** The backend cannot be created or used here; the message names what is missing. */
export class BackendUnavailableError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('BACKEND_UNAVAILABLE', message, options);
  }
}

/** The native addon and the JavaScript packages were built from different versions of an op. */
export class BackendVersionError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('BACKEND_VERSION', message, options);
  }
}

/** No kernel of the op exists for the backend and falling back was forbidden. */
export class MissingKernelError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('MISSING_KERNEL', message, options);
  }
}

/** A kernel failed while running; names the op and the shapes it was given. */
export class ExecutionError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('EXECUTION', message, options);
  }
}

/** The backend could not allocate; names the bytes asked for and the bytes live. */
export class OutOfMemoryError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('OUT_OF_MEMORY', message, options);
  }
}

/** The GPU device was lost; everything pending was rejected and the backend must be created again. */
export class DeviceLostError extends FiligreeError {
  constructor(message: string, options?: ErrorOptions) {
    super('DEVICE_LOST', message, options);
  }
}

/** Work was aborted through an AbortSignal. `name` is `AbortError`, as the platform's own. */
export class AbortError extends FiligreeError {
  constructor(message = 'The operation was aborted', options?: ErrorOptions) {
    super('ABORTED', message, options);
    this.name = 'AbortError';
  }
}

/** Throws {@link AbortError} when `signal` has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortError(undefined, { cause: signal.reason });
}
