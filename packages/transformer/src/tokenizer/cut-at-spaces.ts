import { metaspace, tokenType, type Vocabulary } from './vocabulary.js';

const space = 0x20;

/**
 * Cuts text into words with the spaces before them, where the vocabulary allows it: if spaces only begin tokens, no merge crosses the place
 * before a space, and words met before need not be merged again. Otherwise the text stays whole.
 */
export function cutAtSpaces(vocabulary: Vocabulary): (text: string, onPiece: (piece: string) => void) => void {
  if (!spacesBeginTokens(vocabulary)) {
    return (text, onPiece) => {
      onPiece(text);
    };
  }
  return (text, onPiece) => {
    for (let start = 0; start < text.length;) {
      const end = wordEnd(text, start);
      onPiece(text.slice(start, end));
      start = end;
    }
  };
}

/** Text in the vocabulary's form `spaces`: the character that stands for the space there is the same as a space. */
export function withPlainSpaces(text: string): string {
  return text.replaceAll(metaspace, ' ');
}

/** The end of a run of spaces and of what follows until the next space. */
function wordEnd(text: string, start: number): number {
  let end = start;
  while (text.charCodeAt(end) === space) end++;
  const next = text.indexOf(' ', end);
  return next < 0 ? text.length : next;
}

function spacesBeginTokens(vocabulary: Vocabulary): boolean {
  for (let id = 0; id < vocabulary.size; id++) {
    const type = vocabulary.types[id];
    if (type === tokenType.control || type === tokenType.unknown || type === tokenType.byte) continue;
    const bytes = vocabulary.bytes(id);
    let index = 0;
    while (bytes[index] === space) index++;
    if (bytes.includes(space, index) && vocabulary.find(bytes, 0, bytes.length) >= 0) return false;
  }
  return true;
}
