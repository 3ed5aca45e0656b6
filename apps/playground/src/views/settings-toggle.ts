import { element } from '../elements.js';

/** On narrow screens the side panel is shown on demand; on wide ones the style sheet always shows it. */
export function startSettingsToggle(): void {
  element('settings-toggle', HTMLButtonElement).addEventListener('click', () => {
    showSettings(!element('settings', HTMLElement).classList.contains('open'));
  });
}

/** Whether a form's fields are in range; if not the browser points at the first that is not, which must be in view for that. */
export function checkForm(form: HTMLFormElement): boolean {
  if (form.checkValidity()) return true;
  showSettings(true);
  return form.reportValidity();
}

function showSettings(open: boolean): void {
  element('settings', HTMLElement).classList.toggle('open', open);
  element('settings-toggle', HTMLButtonElement).ariaExpanded = String(open);
}
