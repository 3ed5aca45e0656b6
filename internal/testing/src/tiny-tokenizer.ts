import type { GgufValue } from '@filigree/checkpoint';

const special = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'] as const;
const words = [
  ' the',
  ' and',
  ' of',
  ' to',
  ' in',
  ' that',
  ' is',
  'ing',
  'tion',
  ' he',
  ' was',
  ' it',
  ' for',
  'user',
  'assistant',
];

/** Template of SmolLM2's kind, without a default system message. */
const chatTemplate =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}" +
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/** Byte-level BPE of every byte and the merges that build a few words, as GGUF metadata. */
export function tinyTokenizer({ chat }: { readonly chat: boolean }): {
  readonly size: number;
  readonly metadata: readonly (readonly [string, GgufValue])[];
} {
  const tokens: string[] = [...special, ...Array.from({ length: 256 }, (_, byte) => byteCharacter(byte))];
  const merges: string[] = [];
  for (const word of words) {
    const characters = [...new TextEncoder().encode(word)].map(byteCharacter);
    let left = characters[0];
    for (const right of characters.slice(1)) {
      if (!merges.includes(`${left} ${right}`)) merges.push(`${left} ${right}`);
      left += right;
      if (!tokens.includes(left)) tokens.push(left);
    }
  }
  const string = (value: string): GgufValue => ({ type: 'string', value });
  const strings = (values: readonly string[]): GgufValue => ({ type: 'array', value: { elementType: 'string', values } });
  const types = Int32Array.from(tokens, (_, index) => (index < special.length ? 3 : 1));
  return {
    size: tokens.length,
    metadata: [
      ['tokenizer.ggml.model', string('gpt2')],
      ['tokenizer.ggml.pre', string('smollm')],
      ['tokenizer.ggml.tokens', strings(tokens)],
      ['tokenizer.ggml.token_type', { type: 'array', value: { elementType: 'i32', values: types } }],
      ['tokenizer.ggml.merges', strings(merges)],
      ['tokenizer.ggml.bos_token_id', { type: 'u32', value: 1 }],
      ['tokenizer.ggml.eos_token_id', { type: 'u32', value: 2 }],
      ['tokenizer.ggml.unknown_token_id', { type: 'u32', value: 0 }],
      ['tokenizer.ggml.add_bos_token', { type: 'bool', value: false }],
      ...(chat ? [['tokenizer.chat_template', string(chatTemplate)] as const] : []),
    ],
  };
}

/** The printable character that stands for a byte in byte-level BPE: itself where it is printable, else one from U+0100 on. */
function byteCharacter(byte: number): string {
  const printable = (value: number): boolean =>
    (value >= 0x21 && value <= 0x7e) || (value >= 0xa1 && value <= 0xac) || value >= 0xae;
  if (printable(byte)) return String.fromCharCode(byte);
  let before = 0;
  for (let value = 0; value < byte; value++) if (!printable(value)) before++;
  return String.fromCharCode(0x100 + before);
}
