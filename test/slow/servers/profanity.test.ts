/** profanity in a terminal, as a person uses it: log in, ask the bot for an exchange, follow it, read, write. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, it } from 'vitest';
import { useXmpp } from '../../gateways/xmpp/scene.ts';
import { eventually } from '../../support/eventually.ts';
import { describeWith } from '../interop/foreign-program.ts';

const run = promisify(execFile);

/** A program in a terminal of 100 columns and 24 lines that nobody sees. */
class Terminal {
  readonly #socket = `warren-test-${process.pid}`;
  readonly #home = mkdtempSync(join(tmpdir(), 'warren-profanity-'));

  async start(command: string): Promise<void> {
    const environment = `HOME=${this.#home} XDG_CONFIG_HOME=${this.#home} XDG_DATA_HOME=${this.#home} LANG=C.UTF-8`;
    await this.#tmux('-f', '/dev/null', 'new-session', '-d', '-x', '100', '-y', '24', `${environment} ${command}`);
  }

  async #tmux(...words: readonly string[]): Promise<string> {
    return (await run('tmux', ['-L', this.#socket, ...words])).stdout;
  }

  /** Types a line. */
  async type(line: string): Promise<void> {
    await this.#tmux('send-keys', '-l', line);
    await this.#tmux('send-keys', 'Enter');
  }

  async screen(): Promise<string> {
    return this.#tmux('capture-pane', '-p');
  }

  async shows(text: string | RegExp): Promise<string> {
    return eventually(
      async () => {
        const screen = await this.screen();
        expect(screen).toMatch(text);
        return screen;
      },
      { timeoutMs: 20_000, everyMs: 100 },
    );
  }

  async stop(): Promise<void> {
    await this.#tmux('kill-server').catch(() => {});
    rmSync(this.#home, { recursive: true, force: true });
  }
}

describeWith('profanity tmux', ['sh', '-c', 'profanity --version && tmux -V'])('profanity', () => {
  const scene = useXmpp();
  const terminal = new Terminal();
  afterEach(() => terminal.stop());

  it('has an exchange on its contact list', async () => {
    await terminal.start('profanity');
    await terminal.shows('Type /help');
    await terminal.type(`/connect guest@localhost server 127.0.0.1 port ${scene.port} tls disable`);
    await terminal.shows('Enter password');
    await terminal.type('guest');
    await terminal.shows('logged in successfully');
    await terminal.type('/msg broker.localhost exchange.declare logs -type topic');
    await terminal.shows("exchange 'logs' is there");
    await terminal.type('/sub request logs+app.#@broker.localhost');
    await eventually(async () => {
      const { bindings } = await scene.broker.snapshot('/');
      expect(bindings).toMatchObject([{ source: 'logs', bindingKey: 'app.#', destination: 'guest@localhost' }]);
    });
    await terminal.type('/msg logs+app.#@broker.localhost');
    scene.publish('logs', 'app.login', 'anna has logged in');
    await terminal.shows('anna has logged in');
    scene.publish('logs', 'app.logout', 'anna has left');
    await terminal.shows('anna has left');
    await terminal.type('bye, anna');
    // The chat goes on where the last message came from: the key is app.logout.
    await terminal.shows(/app\.logout: bye, anna/);
    await terminal.type('/win 1');
    await terminal.shows(/\+\+ logs\+app\.#@broker\.localhost .* is online/);
  });
});
