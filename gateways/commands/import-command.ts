/** `warren import`: definitions and messages into a data folder, all of them or none. */
import { Command } from 'commander';
import { ArchiveError } from '../../broker/archive/archive-error.ts';
import { type ReadArchive, readArchive } from '../../broker/archive/archive-lines.ts';
import { importArchive } from '../../broker/archive/import-archive.ts';
import { nodeFiles } from '../../broker/storage/folder/files.ts';
import { type Environment, readOptions } from '../config.ts';
import { openFolder, requireFolder, runCommand, sayEvent } from './command.ts';
import { readLines } from './lines.ts';

const OPTIONS = [
  'config',
  'dataDir',
  'recover',
  'messageMemory',
  'defaultUser',
  'defaultPass',
  'defaultVhost',
] as const;

const HELP_END = `
All of it is imported or, when anything is wrong, nothing. Queues, exchanges and bindings that exist
stay as they are; users, permissions and policies become what the file says; messages come after
those that are there. What is imported twice is there once, but for messages, which are there twice.`;

/** Answers the exit code. */
export function importCommand(words: readonly string[], environment: Environment): Promise<number> {
  return runCommand('warren import', async (say) => {
    const command = new Command('warren import')
      .description(
        'Takes a file of warren export, or definitions of RabbitMQ, into the data folder of a broker that is\nnot running. The folder is made when it is not there.',
      )
      .argument('<file>', 'what to import')
      .option('--vhost <name>', 'everything goes into this virtual host, which must exist')
      .addHelpText('after', HELP_END);
    const request = await readOptions(command, OPTIONS, words, environment);
    if (!request.run) {
      process.stdout.write(request.text);
      return;
    }
    const { config } = request;
    const dataDir = requireFolder(config);
    const [file = ''] = command.args;
    const { vhost } = command.opts<{ readonly vhost?: string }>();
    await check(file);
    const store = await openFolder({ ...config, dataDir }, nodeFiles, say);
    try {
      const { messageCount } = await importArchive(store, await read(file), {
        vhost,
        broker: {
          defaultUser: config.defaultUser,
          defaultPassword: config.defaultPass,
          defaultVhost: config.defaultVhost,
          recover: config.recover,
          onStoreEvent: (event) => sayEvent(event, say),
        },
        onSkipped: (what) => say(`not imported: ${what}`),
        nowMs: Date.now(),
      });
      say(`definitions${messageCount === 0 ? '' : ` and ${messageCount} messages`} imported into ${dataDir}`);
    } catch (error) {
      throw error instanceof ArchiveError ? inFile(file, error) : error;
    } finally {
      await store.close();
    }
  });
}

/** Reads all of the file before the data folder is touched. */
async function check(file: string): Promise<void> {
  try {
    const { messages } = await read(file);
    for await (const _ of messages);
  } catch (error) {
    throw error instanceof ArchiveError ? inFile(file, error) : error;
  }
}

function read(file: string): Promise<ReadArchive> {
  return readArchive(readLines(file));
}

function inFile(file: string, error: ArchiveError): ArchiveError {
  return new ArchiveError(`${file}: ${error.message}. Nothing has been imported`);
}
