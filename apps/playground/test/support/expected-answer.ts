import { createReferenceBackend } from '@filigree/core-tensor';
import { generate, loadModel, type GenerateOptions } from '@filigree/transformer';

export interface Answer {
  readonly tokens: readonly number[];
  readonly text: string;
}

/** What the reference backend answers to one message. */
export async function expectedAnswer(file: Uint8Array, question: string, options: GenerateOptions): Promise<Answer> {
  const backend = createReferenceBackend();
  const model = await loadModel(new Blob([new Uint8Array(file)]), { backend, activations: 'none' });
  try {
    const tokens: number[] = [];
    let text = '';
    for await (const part of generate(model, [{ role: 'user', content: question }], options)) {
      tokens.push(part.token);
      text += part.text;
    }
    return { tokens, text };
  } finally {
    model.dispose();
    backend.dispose();
  }
}
