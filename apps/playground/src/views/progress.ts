import { element } from '../elements.js';
import { formatBytes } from '../format.js';

/** What is being loaded, and how far it is. */
export class ProgressView {
  readonly #section = element('progress', HTMLElement);
  readonly #label = element('progress-label', HTMLParagraphElement);
  readonly #bar = element('progress-bar', HTMLProgressElement);
  readonly #cancel = element('cancel', HTMLButtonElement);

  constructor(onCancel: () => void) {
    this.#cancel.addEventListener('click', onCancel);
  }

  /** A bar without a known end until bytes are reported. */
  show(what: string, doneBytes?: number, totalBytes?: number): void {
    this.#section.hidden = false;
    if (doneBytes === undefined) {
      this.#label.textContent = `${what} …`;
      this.#bar.removeAttribute('value');
      return;
    }
    const amount =
      totalBytes === undefined ? formatBytes(doneBytes) : `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
    this.#label.textContent = `${what}: ${amount}`;
    if (totalBytes) this.#bar.value = doneBytes / totalBytes;
    else this.#bar.removeAttribute('value');
  }

  hide(): void {
    this.#section.hidden = true;
  }
}
