import { element } from '../elements.js';

/** On narrow screens the side panel is shown on demand; on wide ones the style sheet always shows it. */
export function startSettingsToggle(): void {
  const button = element('settings-toggle', HTMLButtonElement);
  const panel = element('settings', HTMLElement);
  button.addEventListener('click', () => {
    const open = panel.classList.toggle('open');
    button.ariaExpanded = String(open);
  });
}
