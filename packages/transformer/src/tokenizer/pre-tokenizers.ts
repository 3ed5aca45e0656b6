/** Cuts text into the pieces within which byte-level BPE merges: each pattern in turn cuts the pieces of the one before. */
export type PreTokenizer = readonly RegExp[];

// What JavaScript calls \s has U+FEFF and lacks U+0085; the patterns mean the property.
const gpt2 = pattern(
  String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})`,
);

const contractions = String.raw`'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]`;
const words = String.raw`[^\r\n\p{L}\p{N}]?\p{L}+`;
const rest = String.raw` ?[^\p{White_Space}\p{L}\p{N}]+[\r\n]*|\p{White_Space}*[\r\n]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+`;

const llama3 = pattern(String.raw`${contractions}|${words}|\p{N}{1,3}|${rest}`);
const qwen2 = pattern(String.raw`${contractions}|${words}|\p{N}|${rest}`);

function pattern(source: string): RegExp {
  return new RegExp(source, 'gu');
}

/** By the names that GGUF files use in `tokenizer.ggml.pre`. */
export const preTokenizers: ReadonlyMap<string, PreTokenizer> = /* @__PURE__ */ new Map([
  ['gpt-2', [gpt2]],
  ['smollm', [pattern(String.raw`\p{N}`), gpt2]],
  ['llama-bpe', [llama3]],
  ['qwen2', [qwen2]],
]);

/** Calls `onPiece` for every piece in order; what no pattern takes is a piece of its own. */
export function preTokenize(text: string, patterns: PreTokenizer, onPiece: (piece: string) => void, from = 0): void {
  const pattern = patterns[from];
  if (!pattern) {
    onPiece(text);
    return;
  }
  let done = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > done) preTokenize(text.slice(done, match.index), patterns, onPiece, from + 1);
    if (match[0] !== '') preTokenize(match[0], patterns, onPiece, from + 1);
    done = match.index + match[0].length;
  }
  if (done < text.length) preTokenize(text.slice(done), patterns, onPiece, from + 1);
}

/** Pre-tokenizers of models that take a piece as one token where there is one, whatever the merges say, and want `bos`. */
export const wholePieces: ReadonlySet<string> = /* @__PURE__ */ new Set(['llama-bpe', 'llama3', 'llama-v3']);
