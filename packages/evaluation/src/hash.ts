import type { Tokenizer } from '@filigree/transformer';

/** SHA-256 of bytes, in hexadecimal digits. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** SHA-256 of the texts of all tokens and of how a sample text is split: what two tokenizers that make the same samples share. */
export function tokenizerHash(tokenizer: Tokenizer): Promise<string> {
  const texts = Array.from({ length: tokenizer.vocabularySize }, (_, id) => tokenizer.decode([id], { special: true }));
  const probe = tokenizer.encode('The number 4829 of agent amber-otter, 3f2a-91: naïve\n\n');
  return sha256(new TextEncoder().encode(JSON.stringify([texts, probe, tokenizer.bos ?? null, tokenizer.addBos])));
}
