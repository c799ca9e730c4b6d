/** What is written to Rabbiter: posts, and commands, which begin with a star. Text in, text out. */
import type { Graph } from './graph.ts';
import { type Names, shorten, TwitterError } from './names.ts';
import type { Twitter } from './twitter.ts';
import { andJoin } from './wording.ts';

/** People that `*whois` lists. */
const FOUND_MAX = 10;
/** People that `*following` and `*followers` name: a chat message is no place for ten thousand. */
export const NAMED_MAX = 100;

/** A line, understood. */
export interface Line {
  /** As it was written, in lower case and without the star; `say` for a line that is no command. */
  readonly command: string;
  /** What is to be said, or what stands behind the command. */
  readonly argument: string;
}

/** On whose behalf and with what commands work. */
export interface Scene {
  readonly me: string;
  readonly twitter: Twitter;
  readonly names: Names;
  readonly graph: Graph;
  /** Asks somebody to add the bot; false: there is no way to him. */
  invite(name: string): boolean;
}

interface Command {
  readonly help: string;
  /** How many words it takes; undefined: all that is there. */
  readonly words: readonly [least: number, most: number] | undefined;
  run(argument: string, scene: Scene): Promise<string | undefined> | string | undefined;
}

const COMMANDS: { readonly [name: string]: Command } = {
  help: {
    help: '*help [command] tells what commands there are, or what one of them does.',
    words: [0, 1],
    run: (argument) => help(argument.replace(/^\*/, '').toLowerCase()),
  },
  follow: {
    help: '*follow JID: from now on you get what they say.',
    words: [1, 1],
    run: follow,
  },
  unfollow: {
    help: '*unfollow JID: from now on you do not get what they say.',
    words: [1, 1],
    run: unfollow,
  },
  following: {
    help: '*following [JID] lists whom you follow, or whom they follow.',
    words: [0, 1],
    run: (argument, { names, graph, me }) => {
      const who = argument === '' ? me : names.read(argument);
      const found = graph.following(who).map((name) => names.address(name));
      const subject = who === me ? 'You are' : `${names.address(who)} is`;
      return found.length === 0
        ? `${subject} following nobody at the moment.`
        : `${subject} following ${andJoin(found, NAMED_MAX)}.`;
    },
  },
  followers: {
    help: '*followers [JID] lists who follows you, or them.',
    words: [0, 1],
    run: (argument, { names, graph, me }) => {
      const whom = argument === '' ? me : names.read(argument);
      const found = graph.followers(whom).map((name) => names.address(name));
      const [subject, object] = whom === me ? ['You are', 'you'] : [`${names.address(whom)} is`, names.address(whom)];
      if (found.length === 0) return `Nobody is following ${object} at the moment.`;
      return `${subject} followed by ${andJoin(found, NAMED_MAX)}.`;
    },
  },
  invite: {
    help: '*invite JID asks somebody who is not here yet to join.',
    words: [1, 1],
    run: (argument, { names, graph, invite }) => {
      const whom = names.read(argument);
      const address = names.address(whom);
      if (graph.has(whom)) return `${address} is here already. You could *follow them.`;
      return invite(whom) ? `I have sent ${address} an invitation.` : `I know no way to ${address} from here.`;
    },
  },
  say: {
    help: '*say TEXT says it, whatever it begins with; a space at the beginning of a line does the same.',
    words: undefined,
    run: async (argument, { twitter, me }) => {
      await twitter.post(me, argument);
      return undefined;
    },
  },
  whois: {
    help: '*whois TEXT lists people with this in their names.',
    words: [1, 1],
    run: (argument, { graph, names }) => whois(argument.toLowerCase(), graph, names),
  },
};

/** Takes a line apart. */
export function readLine(text: string): Line {
  if (/^help\s*$/i.test(text)) return { command: 'help', argument: '' };
  const [, command, argument = ''] = /^\*(\S*)\s*(.*)$/s.exec(text) ?? [];
  return command === undefined ? { command: 'say', argument: text } : { command: command.toLowerCase(), argument };
}

/** Does what a line says; undefined: there is nothing to say to it. Rejects with TwitterError. */
export async function answerCommand({ command, argument }: Line, scene: Scene): Promise<string | undefined> {
  const found = commandOf(command);
  if (found === undefined) return `I do not know how to *${shorten(command)}. ${listed()}`;
  if (found.words === undefined) return found.run(argument, scene);
  const [least, most] = found.words;
  const words = argument.split(/\s+/).filter(Boolean);
  if (words.length < least || words.length > most) return found.help;
  return found.run(words.join(' '), scene);
}

function commandOf(name: string): Command | undefined {
  return Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
}

function listed(): string {
  return `There are ${andJoin(Object.keys(COMMANDS).map((name) => `*${name}`))}.`;
}

function help(name: string): string {
  if (name !== '') return commandOf(name)?.help ?? `There is no *${shorten(name)}. ${listed()}`;
  return (
    'What you write to me goes to those who follow you, unless it begins with a star: then it is a command. ' +
    `${listed()} *help COMMAND tells more of one. To say a line that begins with a star, or the word help, begin it ` +
    'with a space.'
  );
}

async function follow(argument: string, { twitter, names, me }: Scene): Promise<string> {
  const whom = names.read(argument);
  const address = names.address(whom);
  try {
    const isNew = await twitter.follow(me, whom);
    if (whom === me) return 'You are now following yourself: what you say comes back to you.';
    return isNew ? `You are now following ${address}.` : `You are following ${address} already.`;
  } catch (error) {
    if (!(error instanceof TwitterError) || error.reason !== 'unknown-person') throw error;
    return `I do not know ${address}. You could *invite them.`;
  }
}

async function unfollow(argument: string, { twitter, names, me }: Scene): Promise<string> {
  const whom = names.read(argument);
  const address = names.address(whom);
  try {
    await twitter.unfollow(me, whom);
    return `You are no longer following ${address}.`;
  } catch (error) {
    if (!(error instanceof TwitterError) || error.reason !== 'not-following') throw error;
    return `You were not following ${address}. *following lists whom you follow.`;
  }
}

function whois(text: string, graph: Graph, names: Names): string {
  const found = graph.people.filter((name) => names.address(name).includes(text));
  if (found.length === 0) return `Nobody here has “${shorten(text)}” in their name.`;
  const lines = found.slice(0, FOUND_MAX).map((name) => {
    const [followers, following] = [graph.followers(name).length, graph.following(name).length];
    return `${names.address(name)} follows ${following}, followed by ${followers}`;
  });
  const more = found.length - lines.length;
  return [...lines, ...(more > 0 ? [`and ${more} more`] : [])].join('\n');
}
