/**
 * Toy Twitter from a terminal, on any AMQP 0-9-1 broker:
 *
 *   npx tsx examples/toy-twitter/command-line.ts --as anna post "Good morning"
 *   npx tsx examples/toy-twitter/command-line.ts --as zoe follow anna
 *   npx tsx examples/toy-twitter/command-line.ts --as zoe timeline --live
 *
 * `--url` (or AMQP_URL) says where the broker is, `--as` (or TWITTER_NAME) who you are; whoever speaks for the first time
 * joins by that. Exit code 1 says that it could not be done, and why, in a sentence.
 */
import { pathToFileURL } from 'node:url';
import { Command, CommanderError } from 'commander';
import { Names, TwitterError } from './names.ts';
import { type Deed, isNews, POST_CHARS_MAX, type Post } from './posts.ts';
import { Twitter } from './twitter.ts';
import { andJoin, noticeOf, printable } from './wording.ts';

const DEFAULT_URL = 'amqp://guest:guest@127.0.0.1:5672';

/** Where a command prints, and what may end it. */
export interface Terminal {
  print(line: string): void;
  complain(line: string): void;
  /** Ends a command that would go on for ever. */
  readonly interrupted: AbortSignal;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** What every command begins with. */
interface Scene {
  readonly twitter: Twitter;
  readonly names: Names;
  readonly me: string;
}

/** Runs one command. Resolves with its exit code; never rejects for what a user can do wrong. */
export async function run(words: readonly string[], terminal: Terminal): Promise<number> {
  try {
    await program(terminal).parseAsync(words, { from: 'user' });
    return 0;
  } catch (error) {
    // Help and version count as errors there; and it has said itself what was wrong.
    if (error instanceof CommanderError) return error.exitCode;
    if (error instanceof TypeError && !('code' in error)) throw error;
    terminal.complain(error instanceof TwitterError ? error.message : explain(error));
    return 1;
  }
}

/** A broker that is not there, or that says no; a defect of this program is thrown on. */
function explain(error: unknown): string {
  const message = error instanceof Error ? error.message || error.constructor.name : String(error);
  return `The broker cannot be used: ${message}. Is --url right?`;
}

function program(terminal: Terminal): Command {
  const { environment, print } = terminal;
  const command = new Command('toy-twitter')
    .description('Toy Twitter on any AMQP 0-9-1 broker: an exchange to send, a queue to read, a binding to follow.')
    .option('--url <url>', 'the broker', environment.AMQP_URL ?? DEFAULT_URL)
    .option('--as <name>', 'who you are', environment.TWITTER_NAME)
    .option('--home <domain>', 'XMPP domain of those who have names without @', 'localhost')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => print(text.trimEnd()),
      writeErr: (text) => terminal.complain(text.trimEnd()),
    });
  const scene = (act: Act, joins = true): Promise<void> => withScene(command.opts(), terminal, joins, act);

  command
    .command('post <words...>')
    .description(`say something to those who follow you (${POST_CHARS_MAX} characters)`)
    .action((words: string[]) => scene(async ({ twitter, me }) => void (await twitter.post(me, words.join(' ')))));
  command
    .command('follow <name>')
    .description('receive what somebody says')
    .action((name: string) => scene((at) => follow(at, name, print)));
  command
    .command('unfollow <name>')
    .description('receive it no longer')
    .action((name: string) => scene((at) => unfollow(at, name, print)));
  command
    .command('timeline')
    .description('what has come for you since you looked last')
    .option('--live', 'and stay, until Ctrl-C')
    .action(({ live = false }: { live?: boolean }) => scene((at) => timeline(at, live, terminal)));
  command
    .command('followers [name]')
    .description('who follows you, or somebody')
    .action((name?: string) => scene((at) => followers(at, name, print)));
  command
    .command('following [name]')
    .description('whom you follow, or somebody does')
    .action((name?: string) => scene((at) => following(at, name, print)));
  command
    .command('search <words...>')
    .description('the latest posts of all with these words; @name finds those of somebody')
    .option('--live', 'and stay, until Ctrl-C')
    .action((words: string[], { live = false }: { live?: boolean }) =>
      scene((at) => search(at, words.join(' '), live, terminal)),
    );
  command
    .command('leave')
    .description('give up your name, your inbox and all whom you follow')
    .action(() => scene((at) => leave(at, print), false));
  return command;
}

type Act = (scene: Scene) => Promise<void>;

async function withScene(
  options: { readonly url?: string; readonly as?: string; readonly home?: string },
  terminal: Terminal,
  joins: boolean,
  act: Act,
): Promise<void> {
  const names = new Names(options.home);
  if (options.as === undefined) throw new TwitterError('bad-name', 'Who are you? Say --as NAME, or set TWITTER_NAME.');
  const me = names.read(options.as);
  const twitter = await Twitter.connect(options.url ?? DEFAULT_URL);
  try {
    const joined = joins ? await twitter.join(me) : 'already';
    if (joined === 'new') terminal.print(`Welcome, ${me}.`);
    if (joined === 'back') terminal.print(`Welcome back, ${me}. Whom you followed before is forgotten.`);
    await act({ twitter, names, me });
  } finally {
    await twitter.close();
  }
}

type Print = (line: string) => void;

async function follow({ twitter, names, me }: Scene, text: string, print: Print): Promise<void> {
  const whom = names.read(text);
  const isNew = await twitter.follow(me, whom);
  const called = whom === me ? 'yourself' : whom;
  const after = whom === me ? ': what you say will come back to you.' : '.';
  print(isNew ? `You are now following ${called}${after}` : `You are following ${called} already.`);
}

async function leave({ twitter, me }: Scene, print: Print): Promise<void> {
  print((await twitter.leave(me)) ? `Goodbye, ${me}.` : `There is nobody named ${me} here.`);
}

async function unfollow({ twitter, names, me }: Scene, text: string, print: Print): Promise<void> {
  const whom = names.read(text);
  await twitter.unfollow(me, whom);
  print(`You are no longer following ${whom}.`);
}

async function followers({ twitter, names, me }: Scene, text: string | undefined, print: Print): Promise<void> {
  const whom = text === undefined ? me : names.read(text);
  const found = (await twitter.graph()).followers(whom);
  print(found.length === 0 ? `Nobody follows ${whom}.` : `${whom} is followed by ${andJoin(found)}.`);
}

async function following({ twitter, names, me }: Scene, text: string | undefined, print: Print): Promise<void> {
  const who = text === undefined ? me : names.read(text);
  const found = (await twitter.graph()).following(who);
  print(found.length === 0 ? `${who} follows nobody.` : `${who} follows ${andJoin(found)}.`);
}

/** What waited is printed and taken; `--live` goes on with what comes. */
async function timeline({ twitter, me }: Scene, live: boolean, terminal: Terminal): Promise<void> {
  let waiting = await twitter.unread(me);
  if (waiting === 0 && !live) {
    terminal.print('Nothing new.');
    return;
  }
  let end: () => void = () => {};
  const done = new Promise<void>((resolve) => {
    end = resolve;
  });
  const reading = await twitter.timeline(me, {
    onItem(item, settle) {
      if (isNews(item, me)) terminal.print(lineOf(item, me));
      settle.taken();
      waiting -= 1;
      if (waiting <= 0 && !live) end();
    },
    onEnd: end,
  });
  onInterrupt(terminal, end);
  await done;
  await reading.close();
}

function onInterrupt({ interrupted }: Terminal, act: () => void): void {
  if (interrupted.aborted) act();
  else interrupted.addEventListener('abort', act, { once: true });
}

async function search({ twitter, me }: Scene, words: string, live: boolean, terminal: Terminal): Promise<void> {
  const show = (post: Post): void => terminal.print(lineOf(post, me));
  const stop = live ? await twitter.watch(words, show) : undefined;
  const found = await twitter.search(words);
  for (const post of found) show(post);
  if (stop === undefined) {
    if (found.length === 0) terminal.print('Nobody has said that of late.');
    return;
  }
  await new Promise<void>((resolve) => {
    onInterrupt(terminal, resolve);
    twitter.onLost(resolve);
  });
  await stop().catch(() => {});
}

function lineOf(item: Post | Deed | undefined, me: string): string {
  if (item === undefined) return '* Something odd has come, which makes no sense here.';
  if (item.kind === 'deed') return `* ${printable(noticeOf(item, item.who))}`;
  const author = item.author === me ? 'you' : (item.author ?? item.exchange);
  const at = item.at.toTimeString().slice(0, 5);
  return printable(`${at} ${author}: ${item.text}`);
}

/** The command line itself, when this file is run and not imported. */
if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const interruption = new AbortController();
  process.once('SIGINT', () => interruption.abort());
  process.exitCode = await run(process.argv.slice(2), {
    print: (line) => void process.stdout.write(`${line}\n`),
    complain: (line) => void process.stderr.write(`${line}\n`),
    interrupted: interruption.signal,
    environment: process.env,
  });
}
