import { element } from '../elements.js';
import { formatBytes } from '../format.js';
import { knownAddresses, type ModelChoice } from '../state/model-choice.js';

/** Address, file or drop: each calls `onChoice`. */
export class Picker {
  readonly #section = element('start', HTMLElement);
  readonly #address = element('address', HTMLInputElement);
  readonly #about = element('address-about', HTMLParagraphElement);

  constructor(onChoice: (choice: ModelChoice) => void) {
    this.#address.value = knownAddresses[0]?.url ?? '';
    element('known-models', HTMLDataListElement).append(...knownAddresses.map(({ url, title }) => new Option(title, url)));
    this.#address.addEventListener('input', () => {
      this.#describe();
    });
    this.#describe();
    element('address-form', HTMLFormElement).addEventListener('submit', (event) => {
      event.preventDefault();
      onChoice({ kind: 'address', url: this.#address.value.trim(), keep: true });
    });
    const file = element('file', HTMLInputElement);
    file.addEventListener('change', () => {
      const chosen = file.files?.[0];
      // The same file can be chosen again after a failure.
      if (chosen) onChoice({ kind: 'file', file: chosen });
      file.value = '';
    });
    this.#takeDrops(onChoice);
  }

  set hidden(hidden: boolean) {
    this.#section.hidden = hidden;
  }

  focus(): void {
    this.#address.focus();
  }

  #describe(): void {
    const known = knownAddresses.find(({ url }) => url === this.#address.value.trim());
    this.#about.textContent = known
      ? `${known.title}, ${formatBytes(known.bytes)}, from the Hugging Face Hub; kept in this browser once it is here`
      : 'Kept in this browser once it is here';
  }

  #takeDrops(onChoice: (choice: ModelChoice) => void): void {
    const { classList } = document.body;
    document.addEventListener('dragover', (event) => {
      event.preventDefault();
      classList.add('dropping');
    });
    document.addEventListener('dragleave', (event) => {
      if (event.relatedTarget === null) classList.remove('dropping');
    });
    document.addEventListener('drop', (event) => {
      event.preventDefault();
      classList.remove('dropping');
      const file = event.dataTransfer?.files[0];
      if (file) onChoice({ kind: 'file', file });
    });
  }
}
