import { FiligreeError } from '@filigree/core-tensor';
import { isVisible, lowerMask, type Pattern } from '@filigree/sparse-attention';
import { element } from '../elements.js';
import { formatShare } from '../format.js';

/** Rows and columns of the picture. */
const cells = 64;

/** A picture of which keys (across) the queries of a prompt (down) look at, sampled from the very mask that runs. */
export class MaskView {
  readonly #picture = element('mask', SVGSVGElement);
  readonly #cells = element('mask-cells', SVGPathElement);
  readonly #caption = element('mask-caption', HTMLElement);

  constructor() {
    this.#picture.setAttribute('viewBox', `0 0 ${cells} ${cells}`);
  }

  /** `pattern` makes the pattern, or undefined for dense attention; what it refuses is said in place of the picture. */
  show(length: number, pattern: () => Pattern | undefined): void {
    try {
      const mask = pattern()?.({ batch: 1, heads: 1, lenQ: [length], lenK: [length] });
      const density = mask ? lowerMask(mask).stats.density : 1;
      const sees = (query: number, key: number): boolean => (mask ? isVisible(mask, 0, 0, query, key) : key <= query);
      this.#cells.setAttribute(
        'd',
        runs((row, column) => sees(sampled(row, length), sampled(column, length))),
      );
      const words = `${length.toLocaleString('en')} tokens of prompt: ${formatShare(density)} of the dense cells`;
      this.#picture.ariaLabel = `Attention mask, ${words}`;
      this.#caption.textContent = words;
    } catch (error) {
      if (!(error instanceof FiligreeError)) throw error;
      this.#cells.setAttribute('d', '');
      this.#picture.ariaLabel = 'No attention mask';
      this.#caption.textContent = error.message;
    }
  }
}

/** The position in the middle of a cell of the picture. */
function sampled(cell: number, length: number): number {
  return Math.floor(((cell + 0.5) * length) / cells);
}

/** One rectangle per run of filled cells in a row. */
function runs(filled: (row: number, column: number) => boolean): string {
  let path = '';
  for (let row = 0; row < cells; row++) {
    for (let start = 0; start < cells; start++) {
      if (!filled(row, start)) continue;
      let end = start + 1;
      while (end < cells && filled(row, end)) end++;
      path += `M${start} ${row}h${end - start}v1h${start - end}z`;
      start = end;
    }
  }
  return path;
}
