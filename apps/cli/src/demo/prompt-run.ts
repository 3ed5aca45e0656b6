/** What one process measured of one way to attend to the prompt. */
export interface PromptRun {
  readonly promptTokens: number;
  /** From the call to the first token. */
  readonly firstTokenMs: number;
  readonly decodeTokens: number;
  readonly decodeMs: number;
  /** Of the prompt: cells of attention that were computed, over all causal ones. */
  readonly density: number;
  readonly kvBytes: number;
  /** Of the whole process, model and tokenizer included. */
  readonly peakRssBytes: number;
  /** Logits of the token after the prompt, f32 in base64. */
  readonly logits: string;
}

export function encodeLogits(logits: Float32Array): string {
  return Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength).toString('base64');
}

export function decodeLogits(text: string): Float32Array {
  const bytes = Uint8Array.from(Buffer.from(text, 'base64'));
  return new Float32Array(bytes.buffer);
}
