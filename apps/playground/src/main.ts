import { Playground } from './playground.js';
import { startSettingsToggle } from './views/settings-toggle.js';
import { startThemeSwitch } from './views/theme-switch.js';

startThemeSwitch();
startSettingsToggle();
void new Playground().start();
