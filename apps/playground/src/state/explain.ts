import { FiligreeError } from '@filigree/core-tensor';

/** What a user can do about a problem with one button. */
export type Remedy = 'retry' | 'reload-device' | 'load-unkept' | 'new-chat' | 'change-model';

export interface Explanation {
  /** One line in words. */
  readonly title: string;
  /** What the error itself says. */
  readonly details: string;
  /** Stable code of a typed error. */
  readonly code: string;
  readonly remedies: readonly Remedy[];
}

const known: Readonly<Record<string, readonly [title: string, ...remedies: Remedy[]]>> = {
  GGUF_FORMAT: ['This file is not a GGUF file that can be read'],
  MODEL_FORMAT: ['The file holds no model that can be built'],
  UNSUPPORTED_ARCHITECTURE: ['Models of this architecture are not supported'],
  UNSUPPORTED_TENSOR_TYPE: ['The model has weights of a type that is not supported'],
  TOKENIZER: ['The model has a tokenizer that is not supported'],
  CHAT_TEMPLATE: ['The model’s chat template does not take this conversation', 'new-chat'],
  CONTEXT_LENGTH: ['The conversation is longer than the model’s context', 'new-chat'],
  NON_FINITE_LOGITS: ['The model computes no numbers: its weights are broken', 'change-model'],
  OPTION: ['A setting is out of range'],
  SOURCE_READ: ['The model could not be read', 'retry'],
  QUOTA: ['The browser grants too little storage to keep this model', 'load-unkept'],
  DEVICE_LOST: ['The GPU went away, and the model on it with it', 'reload-device'],
  OUT_OF_MEMORY: ['The device has too little memory', 'reload-device', 'change-model'],
  EXECUTION: ['The device failed at a computation', 'reload-device'],
  BACKEND_UNAVAILABLE: ['There is no device to compute on', 'reload-device'],
};

/** An error in words. Errors without a code are faults of the page, and are called so. */
export function explain(error: unknown): Explanation {
  const details = error instanceof Error ? error.message : String(error);
  if (!(error instanceof FiligreeError)) {
    const code = error instanceof Error ? error.name : 'UNKNOWN';
    return { title: 'Something failed that should not have', details, code, remedies: ['reload-device'] };
  }
  const [title = 'This did not work', ...remedies] = known[error.code] ?? [];
  return { title, details, code: error.code, remedies };
}
