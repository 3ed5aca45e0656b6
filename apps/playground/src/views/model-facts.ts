import type { Model } from '@filigree/transformer';
import { describe, element } from '../elements.js';
import { formatBytes } from '../format.js';

/** The loaded model, in the side panel. */
export class ModelFacts {
  readonly #section = element('model', HTMLElement);
  readonly #name = element('model-name', HTMLParagraphElement);
  readonly #facts = element('model-facts', HTMLDListElement);
  readonly #forget = element('forget-model', HTMLButtonElement);

  constructor(on: { readonly change: () => void; readonly forget: () => void }) {
    element('change-model', HTMLButtonElement).addEventListener('click', on.change);
    this.#forget.addEventListener('click', on.forget);
  }

  show(model: Model, name: string, { kept }: { readonly kept: boolean }): void {
    const { architecture, layers, hiddenSize, heads, kvHeads, vocabularySize } = model.config;
    const types = [...new Set(model.weights().map(({ type }) => type))];
    this.#name.textContent = name;
    describe(this.#facts, [
      ['Architecture', architecture],
      ['Layers', `${layers} × ${hiddenSize}`],
      ['Heads', `${heads}, ${kvHeads} of keys`],
      ['Vocabulary', vocabularySize.toLocaleString('en')],
      ['Context', `${model.context.toLocaleString('en')} tokens`],
      ['Weights', `${types.join(', ')}, ${formatBytes(model.memory().fileBytes)}`],
    ]);
    this.#forget.hidden = !kept;
    this.#section.hidden = false;
  }

  /** The stored copy is gone; the model on the device is not. */
  forgotten(): void {
    this.#forget.hidden = true;
  }

  hide(): void {
    this.#section.hidden = true;
  }
}
