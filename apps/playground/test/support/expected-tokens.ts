import { createReferenceBackend } from '@filigree/core-tensor';
import { generate, loadModel } from '@filigree/transformer';

/** The greedy answer of the reference backend to one message: its tokens and its text. */
export async function expectedAnswer(
  file: Uint8Array<ArrayBuffer>,
  question: string,
  maxTokens: number,
): Promise<{ tokens: number[]; text: string }> {
  const backend = createReferenceBackend();
  const model = await loadModel(new Blob([file]), { backend });
  try {
    const tokens: number[] = [];
    let text = '';
    for await (const part of generate(model, [{ role: 'user', content: question }], { maxTokens })) {
      tokens.push(part.token);
      text += part.text;
    }
    return { tokens, text };
  } finally {
    model.dispose();
    backend.dispose();
  }
}
