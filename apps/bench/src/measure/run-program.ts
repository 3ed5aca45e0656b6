import { spawn } from 'node:child_process';

/** Runs a program to its end and returns what it printed; its messages pass through unless `quiet`. */
export function runProgram(command: string, args: readonly string[], options: { quiet?: boolean } = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', options.quiet ? 'ignore' : 'inherit'] });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) resolve(output);
      else reject(new Error(`${command} ${args.slice(0, 2).join(' ')} … ended with ${code ?? signal ?? 'nothing'}`));
    });
  });
}
