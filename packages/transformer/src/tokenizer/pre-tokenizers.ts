/** How byte-level BPE models of a family cut text. */
export interface PreTokenizer {
  /** Each pattern in turn cuts the pieces of the one before; what it does not match is a piece as well. */
  readonly patterns: readonly RegExp[];
  /** Whether a piece that is a token as a whole is that token, whatever the merges say. */
  readonly wholePieces: boolean;
  /** Whether the family wants `bos`, where the file does not say. */
  readonly addBos: boolean;
}

const contractions = String.raw`(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])`;
const word = String.raw`[^\r\n\p{L}\p{N}]?\p{L}+`;
const symbols = String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*`;
const spaces = String.raw`\s*[\r\n]+|\s+(?!\S)|\s+`;
/** Letters that are no ASCII capitals, and letters that are no small ASCII ones. */
const small = String.raw`(?:(?=\p{L})[^A-Z])`;
const capital = String.raw`(?:(?=\p{L})[^a-z])`;
const joint = String.raw`[^\r\n\p{L}\p{N}]?`;

const gpt2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const digits = String.raw`\p{N}`;
const llama3 = `${contractions}|${word}|${String.raw`\p{N}{1,3}`}|${symbols}|${spaces}`;
const qwen2 = `${contractions}|${word}|${digits}|${symbols}|${spaces}`;
const qwen35 = `${contractions}|${String.raw`[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*`}|${spaces}`;
const slashes = String.raw` ?[^\s\p{L}\p{N}]+[\r\n/]*`;
const tekken = `${joint}${capital}*${small}+|${joint}${capital}+${small}*|${digits}|${slashes}|${spaces}`;
const gpt4o =
  `${joint}${capital}*${small}+${contractions}?|${joint}${capital}+${small}*${contractions}?|` +
  `${String.raw`\p{N}{1,3}`}|${slashes}|${spaces}`;
const seedCoder = `${contractions}|${word}|${digits}|${String.raw` ?[^\s\p{L}\p{N}\r\n]+`}|${spaces}`;
const deepseek3 = [
  String.raw`\p{N}{1,3}`,
  String.raw`[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+`,
  String.raw`[!"#$%&'()*+,\-.\/:;<=>?@\[\\\]^_\x60{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|${spaces}`,
];
const deepseekCoder = [
  String.raw`[\r\n]`,
  String.raw`\s?\p{L}+`,
  String.raw`\s?\p{P}+`,
  String.raw`(?:(?!\s)[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff])+`,
  digits,
];
const falcon = [String.raw`[\p{P}\$\+<=>\^~\|\x60]+`, gpt2, '[0-9][0-9][0-9]'];
const fallback = [String.raw`[\p{P}\$\+<=>\^~\|]+`, gpt2, String.raw`\p{N}+`, '[0-9][0-9][0-9]'];

/** Families by the names that GGUF files use in `tokenizer.ggml.pre`; the patterns are those that llama.cpp knows by these names. */
const families: readonly Family[] = [
  { names: 'default', sources: fallback },
  { names: 'gpt-2 phi-2 olmo mpt jais exaone4 trillion granite-docling', sources: [gpt2] },
  { names: 'smollm starcoder refact command-r codeshell exaone minerva-7b', sources: [digits, gpt2] },
  { names: 'llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral lfm2', sources: [llama3], wholePieces: true, addBos: true },
  { names: 'dbrx smaug-bpe glm4 chatglm-bpe', sources: [llama3] },
  { names: 'qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan', sources: [qwen2] },
  { names: 'qwen35', sources: [qwen35] },
  { names: 'tekken', sources: [tekken], wholePieces: true, addBos: true },
  { names: 'gpt-4o llama4', sources: [gpt4o] },
  { names: 'seed-coder', sources: [seedCoder] },
  { names: 'deepseek-v3 hunyuan-dense', sources: deepseek3 },
  { names: 'deepseek-coder', sources: deepseekCoder },
  { names: 'falcon', sources: falcon },
];

interface Family {
  /** Separated by spaces. */
  readonly names: string;
  readonly sources: readonly string[];
  readonly wholePieces?: boolean;
  readonly addBos?: boolean;
}

/** Every name that {@link preTokenizer} knows. */
export const preTokenizerNames: readonly string[] = families.flatMap(({ names }) => names.split(' '));

/** The pre-tokenizer of that name; undefined when there is none. */
export function preTokenizer(name: string): PreTokenizer | undefined {
  const family = families.find(({ names }) => names.split(' ').includes(name));
  if (!family) return undefined;
  const { sources, wholePieces = false, addBos = false } = family;
  return { patterns: sources.map(pattern), wholePieces, addBos };
}

/** What JavaScript calls `\s` has U+FEFF and lacks U+0085; the patterns mean the property. */
function pattern(source: string): RegExp {
  return new RegExp(source.replaceAll('\\s', '\\p{White_Space}').replaceAll('\\S', '\\P{White_Space}'), 'gu');
}

/** Cuts a text by patterns. */
export function cutByPatterns(patterns: readonly RegExp[]): (text: string, onPiece: (piece: string) => void) => void {
  const cut = (text: string, onPiece: (piece: string) => void, from: number): void => {
    if (from === patterns.length) {
      onPiece(text);
      return;
    }
    let done = 0;
    for (const { 0: match, index } of text.matchAll(patterns[from])) {
      if (index > done) cut(text.slice(done, index), onPiece, from + 1);
      cut(match, onPiece, from + 1);
      done = index + match.length;
    }
    if (done < text.length) cut(text.slice(done), onPiece, from + 1);
  };
  return (text, onPiece) => {
    cut(text, onPiece, 0);
  };
}
