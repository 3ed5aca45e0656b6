import {
  AbortError,
  BackendUnavailableError,
  DisposedError,
  ExecutionError,
  OptionError,
  OutOfMemoryError,
  ShapeError,
  type FiligreeError,
} from '@filigree/core-tensor';

const classes: Readonly<Record<string, new (message: string, options?: ErrorOptions) => FiligreeError>> = {
  ABORTED: AbortError,
  BACKEND_UNAVAILABLE: BackendUnavailableError,
  DISPOSED: DisposedError,
  EXECUTION: ExecutionError,
  OPTION: OptionError,
  OUT_OF_MEMORY: OutOfMemoryError,
  SHAPE: ShapeError,
};

/** The addon rejects with `KIND|message`, where a message about an op starts with its native name; this is the typed error for it. */
export function typedError(error: unknown, opName: (native: string) => string = (native) => native): FiligreeError {
  const text = error instanceof Error ? error.message : String(error);
  const bar = text.indexOf('|');
  const Class = classes[text.slice(0, Math.max(bar, 0))] ?? ExecutionError;
  const message = (bar < 0 ? text : text.slice(bar + 1)).replace(/^\w+(?= on )/, opName);
  return new Class(message, { cause: error });
}
