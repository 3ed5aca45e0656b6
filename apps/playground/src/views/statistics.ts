import type { GenerateStats } from '@filigree/transformer';
import { describe, element } from '../elements.js';
import { formatBytes, formatDuration, formatRate, formatShare } from '../format.js';

const unknown = '–';

/** The figures of the generation in progress, or of the last one. */
export class StatisticsView {
  readonly #list = element('statistics', HTMLDListElement);

  constructor() {
    this.show(undefined);
  }

  show(stats: GenerateStats | undefined): void {
    const { promptTokens = 0, prefillMs = 0, decodeTokens = 0, decodeMs = 0, density = 1, kvBytes = 0 } = stats ?? {};
    describe(this.#list, [
      ['Prompt', stats ? `${promptTokens} tokens` : unknown],
      ['First token', prefillMs > 0 ? formatDuration(prefillMs) : unknown],
      ['Speed', formatRate(decodeTokens, decodeMs) ?? unknown],
      ['Answer', prefillMs > 0 ? `${decodeTokens + 1} tokens` : unknown],
      ['Density', prefillMs > 0 ? formatShare(density) : unknown],
      ['KV cache', kvBytes > 0 ? formatBytes(kvBytes) : unknown],
    ]);
  }
}
