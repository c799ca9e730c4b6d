/** The control bot: what it understands in a chat with the domain itself. */
import type { Jid } from './jid.ts';
import { stanzaErrorOf } from './stanza-error.ts';
import { VERBS, type Verb, type VerbContext, type VerbValues } from './verbs.ts';

/** The answer to a line; lines that are not understood are answered with what can be said. */
export async function answerLine(line: string, who: Jid, context: VerbContext): Promise<string> {
  const [name = '', ...words] = wordsOf(line);
  if (name.toLowerCase() === 'help') return help(words[0]);
  const verb = VERBS.find((one) => one.name === name.toLowerCase());
  if (verb === undefined) return `I do not know "${name}".\n${help(undefined)}`;
  const values = readValues(verb, words);
  if (typeof values === 'string') return `${values}\n${usage(verb)}`;
  try {
    return await verb.run(values, who, context);
  } catch (error) {
    const refusal = stanzaErrorOf(error);
    if (refusal === undefined) throw error;
    return `That did not work: ${refusal.message || refusal.condition}`;
  }
}

function help(name: string | undefined): string {
  const verb = VERBS.find((one) => one.name === name?.toLowerCase());
  if (verb !== undefined) return `${usage(verb)}\n${verb.help}`;
  const lines = VERBS.map((one) => `  ${usage(one)}`);
  return ['Commands:', '  help [COMMAND]', ...lines].join('\n');
}

function usage({ name, usage: words }: Verb): string {
  return `${name} ${words}`.trim();
}

/** Words are parted by white space; one in double quotes may have some inside. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
}

/** The values in the words of a line, or what is wrong with them. */
function readValues(verb: Verb, words: readonly string[]): VerbValues | string {
  const values: Record<string, string> = {};
  const places = verb.fields.filter(({ dash }) => !dash);
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const field = verb.fields.find(({ name, dash }) => dash && word === `-${name}`);
    if (field !== undefined) {
      const value = field.type === 'boolean' ? 'true' : rest.shift();
      if (value === undefined) return `${word} needs a value.`;
      values[field.name] = value;
      continue;
    }
    const place = places.shift();
    if (place === undefined) return `I do not know what to do with "${word}".`;
    values[place.name] = word;
  }
  const missing = verb.fields.find(({ name, required }) => required && values[name] === undefined);
  return missing === undefined ? values : `${missing.label} is missing.`;
}
