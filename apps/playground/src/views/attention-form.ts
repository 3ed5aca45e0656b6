import { attentionMethods, type AttentionMethod, type Pattern } from '@filigree/sparse-attention';
import type { AttentionChoice } from '@filigree/transformer';
import { element } from '../elements.js';
import { MaskView } from './mask-view.js';
import { numberField, type NumberField } from './number-field.js';
import { checkForm } from './settings-toggle.js';

/** The pattern of a method, which is what models run and the picture shows. */
function patternOf(method: AttentionMethod | undefined, options?: Readonly<Record<string, number>>): Pattern | undefined {
  const policy = method?.create(options);
  return policy?.kind === 'pattern' ? policy.pattern : undefined;
}

const promptMethods = attentionMethods.filter((method) => method.phase !== 'decode' && patternOf(method) !== undefined);

/** Which keys the tokens of the prompt look at: all, or those that a method of the catalogue leaves. */
export class AttentionForm {
  readonly #form = element('attention', HTMLFormElement);
  readonly #method = element('attention-method', HTMLSelectElement);
  readonly #about = element('attention-about', HTMLParagraphElement);
  readonly #options = element('attention-fields', HTMLDivElement);
  readonly #mask = new MaskView();
  #fields: readonly NumberField[] = [];
  #promptTokens = 1024;

  constructor() {
    this.#method.append(new Option('Dense', ''), ...promptMethods.map(({ id, title }) => new Option(title, id)));
    this.#method.addEventListener('change', () => {
      this.#show(this.#chosen());
    });
    this.#form.addEventListener('submit', (event) => event.preventDefault());
    this.#form.addEventListener('input', () => {
      this.#draw();
    });
    this.#show(undefined);
  }

  /** Length of the prompt that the picture is of. */
  set promptTokens(count: number) {
    this.#promptTokens = count;
    this.#draw();
  }

  /** The choice for the prompt; `valid: false` when an option is out of range, which the browser then points out. */
  read(): { readonly valid: boolean; readonly prefill: AttentionChoice | undefined } {
    if (!checkForm(this.#form)) return { valid: false, prefill: undefined };
    const method = this.#chosen();
    return { valid: true, prefill: method && { method: method.id, options: this.#values() } };
  }

  #values(): Record<string, number> {
    return Object.fromEntries(this.#fields.map(({ name, value }) => [name, value()]));
  }

  #chosen(): AttentionMethod | undefined {
    return promptMethods.find(({ id }) => id === this.#method.value);
  }

  #show(method: AttentionMethod | undefined): void {
    this.#about.textContent = method ? method.paper : 'Every token sees all that came before it.';
    this.#fields = Object.entries(method?.options ?? {}).flatMap(([name, value]) =>
      typeof value === 'number' ? [numberField({ name, label: words(name), value, min: 0, step: 1 })] : [],
    );
    this.#options.replaceChildren(...this.#fields.map((field) => field.element));
    this.#draw();
  }

  #draw(): void {
    this.#mask.show(this.#promptTokens, () => patternOf(this.#chosen(), this.#values()));
  }
}

/** `lastRows` → `Last rows`. */
function words(name: string): string {
  const spaced = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}
