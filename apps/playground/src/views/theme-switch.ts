import { element } from '../elements.js';

const themes = ['system', 'light', 'dark'] as const;
const storageKey = 'filigree-theme';

/** Cycles through the system's colours, light and dark, and remembers the choice. */
export function startThemeSwitch(): void {
  const button = element('theme', HTMLButtonElement);
  const name = element('theme-name', HTMLSpanElement);
  const stored = themes.find((theme) => theme === remembered());
  let theme: (typeof themes)[number] = stored ?? 'system';
  const show = (): void => {
    document.documentElement.dataset['theme'] = theme;
    name.textContent = theme;
  };
  button.addEventListener('click', () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length] ?? 'system';
    remember(theme);
    show();
  });
  show();
}

/** Storage can be forbidden; the choice then lasts as long as the page. */
function remembered(): string | null {
  try {
    return localStorage.getItem(storageKey);
  } catch {
    return null;
  }
}

function remember(theme: string): void {
  try {
    localStorage.setItem(storageKey, theme);
  } catch {
    return;
  }
}
