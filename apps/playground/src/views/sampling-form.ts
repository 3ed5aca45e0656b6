import type { SamplingOptions } from '@filigree/transformer';
import { element } from '../elements.js';
import { numberField, type NumberField } from './number-field.js';
import { checkForm } from './settings-toggle.js';

export interface SamplingSettings {
  readonly maxTokens: number;
  readonly sampling: SamplingOptions;
}

/** How the next token is chosen. */
export class SamplingForm {
  readonly #form = element('sampling', HTMLFormElement);
  readonly #fields = {
    temperature: numberField({ name: 'temperature', label: 'Temperature', value: 0.2, min: 0, max: 5, hint: '0: most likely' }),
    topK: numberField({ name: 'top-k', label: 'Top-k', value: 40, min: 0, step: 1, hint: '0: all' }),
    topP: numberField({ name: 'top-p', label: 'Top-p', value: 0.95, min: 0.01, max: 1, hint: '1: all' }),
    seed: numberField({ name: 'seed', label: 'Seed', value: 0, min: 0, max: Number.MAX_SAFE_INTEGER, step: 1 }),
    maxTokens: numberField({ name: 'max-tokens', label: 'Max tokens', value: 256, min: 1, step: 1 }),
  } satisfies Record<string, NumberField>;

  constructor() {
    element('sampling-fields', HTMLDivElement).append(...Object.values(this.#fields).map((field) => field.element));
    this.#form.addEventListener('submit', (event) => event.preventDefault());
  }

  /** The settings; undefined when one is out of range, which the browser then points out. */
  read(): SamplingSettings | undefined {
    if (!checkForm(this.#form)) return undefined;
    const { temperature, topK, topP, seed, maxTokens } = this.#fields;
    return {
      maxTokens: maxTokens.value(),
      sampling: { temperature: temperature.value(), topK: topK.value(), topP: topP.value(), seed: seed.value() },
    };
  }
}
