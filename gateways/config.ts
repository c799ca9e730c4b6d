/**
 * The configuration of the process: command line > environment > configuration file > default, read once, checked as a
 * whole, frozen. What is wrong is reported all at once, each with the option, where the value came from and what is
 * allowed.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Command, CommanderError, Option as CommanderOption } from 'commander';
import { ValueError } from './option-kinds.ts';
import {
  type Config,
  defaultText,
  OPTION_NAMES,
  OPTIONS,
  type Option,
  type OptionName,
  spelled,
  variables,
} from './options.ts';
import { packageVersion } from './package.ts';

/** One or more things wrong with the configuration; the message has a line for each. The process exits with 2. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** What a command line asks for; of the options, those named `Name`. */
export type Request<Name extends OptionName = OptionName> =
  | { readonly run: true; readonly config: Pick<Config, Name> }
  /** Only to print `text` (help, version). */
  | { readonly run: false; readonly text: string };

export type Environment = Readonly<Record<string, string | undefined>>;

/** A value that somebody gave, and who, for error messages. */
interface Given {
  readonly value: unknown;
  readonly source: string;
  /** Where relative paths begin. */
  readonly folder: string;
}

/**
 * Reads the configuration of the broker.
 *
 * @param words the command line after the name of the program
 * @throws ConfigError
 */
export async function readConfig(words: readonly string[], environment: Environment): Promise<Request> {
  const [first] = words;
  if (first !== undefined && !first.startsWith('-')) {
    if (first === 'help') return readConfig(['--help'], environment);
    const advice = 'the broker starts without one; besides, there are warren export and warren import';
    throw new ConfigError(`there is no command ${JSON.stringify(first)}: ${advice}\nSee warren --help.`);
  }
  const command = new Command('warren')
    .description('A message broker: AMQP 0-9-1, STOMP and XMPP over TCP, TLS and WebSocket, and reverse HTTP.')
    .version(packageVersion(), '-V, --version', 'Print the version')
    .allowExcessArguments(false)
    .addHelpText('after', HELP_END);
  return readOptions(command, OPTION_NAMES, words, environment, contradictions);
}

/**
 * Reads the options `names`, and on the command line whatever else `command` takes.
 *
 * @param words the command line after the name of the command
 * @param contradictions what is wrong with options that are good each by itself
 * @throws ConfigError
 */
export async function readOptions<Name extends OptionName>(
  command: Command,
  names: readonly Name[],
  words: readonly string[],
  environment: Environment,
  contradictions: (config: Pick<Config, Name>, given: ReadonlyMap<OptionName, Given>) => string[] = () => [],
): Promise<Request<Name>> {
  const commandLine = parseCommandLine(command, names, words);
  if (typeof commandLine === 'string') return { run: false, text: commandLine };
  const problems: string[] = [];
  const given = new Map<OptionName, Given>();
  for (const name of names) {
    const value = commandLine.get(name);
    const variable = variables(name).find((candidate) => environment[candidate]);
    if (value !== undefined) given.set(name, { value, source: 'the command line', folder: process.cwd() });
    else if (variable) given.set(name, { value: environment[variable], source: variable, folder: process.cwd() });
  }
  await addFile(given, problems);
  const config = Object.freeze(
    Object.fromEntries(names.map((name) => [name, resolveValue(name, given.get(name), problems)])),
  ) as Pick<Config, Name>;
  if (problems.length === 0) problems.push(...contradictions(config, given));
  if (problems.length > 0) throw new ConfigError(problems.join('\n'));
  return { run: true, config };
}

/** The values on the command line, or a text that it asks to print. */
function parseCommandLine(
  command: Command,
  names: readonly OptionName[],
  words: readonly string[],
): ReadonlyMap<OptionName, unknown> | string {
  let output = '';
  command
    .helpOption('-h, --help', 'Print this help')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => {
        output += text;
      },
      writeErr: () => {},
    });
  for (const name of names) command.addOption(commanderOption(name));
  try {
    command.parse(words, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return output;
    throw new ConfigError(`${error.message.replace(/^error: /, '')}\nSee ${command.name()} --help.`);
  }
  const values: Record<string, unknown> = command.opts();
  return new Map(names.map((name) => [name, values[name]]));
}

const HELP_END = `
Each option may also be given by its environment variable or as a key of the configuration file:
--amqp-port 5673, WARREN_AMQP_PORT=5673 and amqp-port = 5673 are the same. The command line counts
first, then the environment, then the file.

Besides the broker there are two commands for the data folder of one that does not run; see
warren export --help and warren import --help.`;

function commanderOption(name: OptionName): CommanderOption {
  const { kind, help, group, alsoFrom = [] }: Option<unknown> = OPTIONS[name];
  const standard = defaultText(name);
  const notes = [kind.allowed, standard === undefined ? undefined : `default: ${standard}`, ...alsoFrom];
  const description = `${help} (${notes.filter((note) => note !== undefined).join('; ')})`;
  return new CommanderOption(`--${spelled(name)} <${kind.placeholder}>`, description).helpGroup(`${group}:`);
}

/** Adds what the configuration file gives, where nothing that counts more is given. */
async function addFile(given: Map<OptionName, Given>, problems: string[]): Promise<void> {
  const file = resolveValue('config', given.get('config'), problems);
  if (typeof file !== 'string') return;
  const names = new Map(OPTION_NAMES.filter((name) => name !== 'config').map((name) => [spelled(name), name]));
  for (const [key, value] of Object.entries(await readToml(file))) {
    const name = names.get(key);
    if (name === undefined) problems.push(unknownKey(key, file, names));
    else if (!given.has(name)) given.set(name, { value, source: file, folder: dirname(resolve(file)) });
  }
}

async function readToml(file: string): Promise<Record<string, unknown>> {
  const { parse, TomlError } = await import('smol-toml');
  try {
    return parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof TomlError) throw new ConfigError(`config: ${file} is no TOML: ${error.message}`);
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`config: cannot read ${file}: ${reason}`);
  }
}

function unknownKey(key: string, file: string, names: ReadonlyMap<string, OptionName>): string {
  const likely = key.toLowerCase().replaceAll('_', '-');
  const hint = names.has(likely) ? `did you mean ${likely}?` : 'warren --help lists them all';
  return `${key}: there is no such option (in ${file}); ${hint}`;
}

function resolveValue(name: OptionName, given: Given | undefined, problems: string[]): unknown {
  const option: Option<unknown> = OPTIONS[name];
  if (!given) return option.default;
  try {
    return option.kind.read(given.value, given.folder);
  } catch (error) {
    if (!(error instanceof ValueError)) throw error;
    const shown = option.secret ? 'the value' : JSON.stringify(given.value);
    const problem = `${spelled(name)}: ${shown} (from ${given.source}) is not allowed: ${error.message}`;
    if (!problems.includes(problem)) problems.push(problem);
    return option.default;
  }
}

/** Options that are good each by itself and not together. */
function contradictions(config: Config, given: ReadonlyMap<OptionName, Given>): string[] {
  const problems: string[] = [];
  const need = (name: OptionName, what: string): void => {
    problems.push(`${spelled(name)} (from ${given.get(name)?.source}) needs ${what}`);
  };
  if (config.tlsCertificateFile && !config.tlsKeyFile) need('tlsCertificateFile', 'tls-key-file too');
  if (config.tlsKeyFile && !config.tlsCertificateFile) need('tlsKeyFile', 'tls-certificate-file too');
  if (config.stompDefaultPass && !config.stompDefaultUser) need('stompDefaultPass', 'stomp-default-user too');
  if (config.stompDefaultUser && !config.stompDefaultPass) need('stompDefaultUser', 'stomp-default-pass too');
  if (config.stompImplicitConnect === 'on' && !config.stompDefaultUser) {
    need('stompImplicitConnect', 'stomp-default-user and stomp-default-pass');
  }
  if (config.xmppComponents.length > 0 && !(config.xmppComponentSecret && config.xmppComponentUser)) {
    need('xmppComponents', 'xmpp-component-secret and xmpp-component-user');
  }
  if (config.tlsVerifyClient !== 'none' && !config.tlsCaFile) need('tlsVerifyClient', 'tls-ca-file');
  if (!config.tlsCertificateFile) {
    for (const name of ['amqpsPort', 'stompsPort', 'xmppsPort', 'httpsPort', 'tlsCaFile', 'tlsVerifyClient'] as const) {
      const isWanted = given.has(name) && !['off', 'none', ''].includes(String(config[name]));
      if (isWanted) need(name, 'tls-certificate-file and tls-key-file');
    }
  }
  return problems;
}
