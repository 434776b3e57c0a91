/** Where EC2 and its program behave in their own way, and the test that shows how the provider takes it. */
export type Trap = { trap: string; says: string; file: string; test: string }

const row = (trap: string, says: string, file: string, test: string): Trap => ({ trap, says, file, test })

export const traps: readonly Trap[] = [
  // The program
  row(
    'user data is encoded by the program',
    'Encoded by us as well, the guest gets nonsense.',
    'life',
    'user data is the seed as plain text',
  ),
  row(
    'user data holds a private key',
    'The command line is for every user of the host to read.',
    'life',
    'the private key in the user data goes through a file',
  ),
  row(
    'exit codes',
    '252 wrong command, 253 no credentials or region, 254 refused, 255 anything else.',
    'explain',
    '%s, exit code %i',
  ),
  row(
    'errors are told by a CODE',
    'The text is for people and changes.',
    'explain',
    '%s is what %s means, in whatever words',
  ),
  row(
    'the program checks inputs by the model',
    'Unknown members and wrong types end with 252. What 2.9.19 does not know is not used.',
    'model.process',
    'takes every input',
  ),
  row(
    'lists are left out or cut',
    'A list that cannot be read is not an empty list.',
    'explain',
    'and not an empty list',
  ),
  // Launch
  row(
    'a new instance is not shown for some looks',
    'NotFound, or missing in a list.',
    'life',
    'a new machine that AWS does not show yet is waited for',
  ),
  row(
    'the program sends a random token',
    'A second try is a second machine.',
    'life',
    'after a crash that lost the answer, gets the same machine',
  ),
  row(
    'a token with other parameters',
    'IdempotentParameterMismatch.',
    'life',
    'a token of another launch with other settings',
  ),
  row(
    'a token of a terminated instance',
    'It brings that instance back, terminated.',
    'life',
    'a token of a machine that is terminated',
  ),
  row(
    'a launch that was killed, of a machine that is not shown',
    'A delete that looks once finds nothing.',
    'kill',
    'create, which is undone',
  ),
  row(
    'a device name that is not the root',
    'It adds a second disk.',
    'life',
    "the root disk is sized by the image's own name of it",
  ),
  row(
    'an instance that AWS ends at once',
    'It is pending, then terminated, with a reason.',
    'life',
    'a launch that AWS ends at once fails with its reason',
  ),
  row(
    'burstable types are unlimited',
    'T3, T3a and T4g spend credits that they do not have, which is billed beyond the price.',
    'life',
    'costs no more than its price, since it spends no credits',
  ),
  row(
    'metadata service',
    'Version 1 needs no token; containers are one hop away; a role has rights.',
    'life',
    'version 2 of the metadata service alone, one hop, and no role',
  ),
  // States
  row(
    'states take time',
    'A start while it stops is refused.',
    'life',
    'a start while it still stops waits for the stop',
  ),
  row(
    'addresses change',
    'A public address is gone at stop, and new at start.',
    'life',
    'another address after a stop and a start',
  ),
  row(
    'terminated instances are shown for an hour',
    'With their tags.',
    'life',
    'a machine that is terminated, and that AWS shows for an hour',
  ),
  // Checkpoints
  row(
    'a snapshot is pending first',
    'A volume cannot be made of it yet.',
    'disks',
    'a restore waits for a checkpoint that AWS still copies',
  ),
  row(
    'the guest goes on while AWS copies',
    'What it does after the checkpoint of the present state is not in it.',
    'disks',
    'nothing that the guest does while AWS copies is lost',
  ),
  row(
    'an instance shuts down for a while',
    'Its machine is gone, and it is neither present nor terminated.',
    'disks',
    'while AWS terminates a machine, its checkpoints are left',
  ),
  row(
    'few snapshots of one volume at a time',
    'SnapshotCreationPerVolumeRateExceeded.',
    'disks',
    'AWS makes a snapshot of one volume only now and then',
  ),
  row('snapshots have no token', 'A crash can leave two of one name.', 'disks', 'two snapshots of one name'),
  row('a snapshot can fail', 'Its state is error.', 'disks', 'a checkpoint that AWS could not make is not listed'),
  row(
    'a snapshot that an image uses',
    'InvalidSnapshot.InUse.',
    'disks',
    'a checkpoint that somebody made an image of',
  ),
  row("a task's tags go to the task", 'The new root volume has none.', 'disks', 'a restore tags the new disk'),
  row(
    'a task needs a running instance',
    'IncorrectInstanceState.',
    'disks',
    'a stopped machine is started for its restore',
  ),
  row(
    'lineage',
    'A snapshot must be of the lineage of the present root volume.',
    'disks',
    'checkpoints of before and after it both work',
  ),
  row(
    'a task goes on without its process',
    'A second one is refused meanwhile.',
    'disks',
    'a task that is under way after a crash',
  ),
  row(
    'a task with a token of before',
    'It brings the former task back, and nothing is restored.',
    'disks',
    'the same checkpoint restored twice is two tasks',
  ),
  row(
    'a task can fail',
    'The old root volume is still attached.',
    'disks',
    'a task that failed leaves the machine as it was',
  ),
  // Forks
  row(
    'a root volume comes from the image',
    'A launch changes its size, type and DeleteOnTermination alone.',
    'forks',
    'the forks are launched from one image of one snapshot',
  ),
  row(
    'an image needs a snapshot that is whole',
    'IncorrectState while AWS copies it.',
    'forks',
    'a fork waits until AWS has copied its snapshot',
  ),
  row(
    'register-image has defaults of old',
    'i386, paravirtual and no ENA, which types of today refuse.',
    'forks',
    'the image says of its machines what AWS says of their source',
  ),
  row(
    'a licence is in the metadata of the snapshot',
    'Where it is not, the image has another platform, and is to be thrown away.',
    'forks',
    'a licence that AWS does not find in the snapshot',
  ),
  row(
    '2.9.19 registers no image with tags',
    'Killed before they are written, nothing tells whose it is but its name.',
    'forks',
    'killed before its image has tags',
  ),
  row(
    'a Spot request names its image',
    'It launches again by what it says, and the image is gone.',
    'forks',
    'forks are on demand where machines are Spot',
  ),
  row(
    'a name is free some time after its image',
    'InvalidAMIName.Duplicate.',
    'forks',
    'the name of an image that was deregistered is taken for a moment',
  ),
  row(
    'an image that is not shown keeps its snapshot',
    'InvalidSnapshot.InUse.',
    'forks',
    'a snapshot whose image AWS does not show yet',
  ),
  row(
    'a token of a fork before',
    'Its machine has the state of another moment.',
    'forks',
    'a machine of an interrupted fork is of another moment',
  ),
  row(
    'cloud-init keeps the login keys that are there',
    'Whoever logs in to the source would log in to its forks.',
    'forks',
    'a fork has the size of its source and an identity of its own',
  ),
  // Delete
  row(
    'a Spot request launches again',
    'Unless it is cancelled before the instance is terminated.',
    'disks',
    'and its machine is not launched again',
  ),
  row('NotFound means done', 'Of what is deleted.', 'disks', 'what AWS does not know any more counts as deleted'),
  row(
    'volumes that stay',
    'DeleteOnTermination may be false, and the volume without tags.',
    'disks',
    'a disk without a mark that AWS does not delete',
  ),
  row(
    'what is left of a machine that somebody terminated',
    'Snapshots and requests stay, and cost.',
    'disks',
    'what is left of a machine that somebody terminated',
  ),
  // Spot, images, tags
  row('a relaunched Spot instance has no tags', 'Its request names it.', 'disks', 'that its request launched again'),
  row('interrupted Spot instances', 'Only AWS starts them again.', 'life', 'AWS alone starts one that it interrupted'),
  row(
    'names of images are unique',
    'InvalidAMIName.Duplicate after a killed build.',
    'images',
    'what a killed build left',
  ),
  row(
    'an image and its snapshots are deleted apart',
    'The image first.',
    'images',
    'a delete deregisters the image before its snapshot',
  ),
  row(
    'whoever may tag can write any tag',
    'Tickets that are none, and names that are flags.',
    'life',
    'tags that somebody else wrote are read as nothing',
  ),
  row(
    'two instances may have one mark',
    'Somebody copied the tags, or a crash made a second one.',
    'life',
    'of two instances with one mark none is changed',
  ),
  row(
    'prices are strings in JSON in strings',
    'And of several products when the filter is too wide.',
    'explain',
    'the price list: %s',
  ),
  // Tags that are copied
  row(
    "backups have their volume's tags",
    'Data Lifecycle Manager and AWS Backup copy them.',
    'disks',
    "a backup that AWS made with the disk's tags is no checkpoint",
  ),
  row(
    'an account has several homes',
    'Their images have the same names.',
    'images',
    'an image that another home is proving is left alone',
  ),
  // Answers that are not the whole truth
  row(
    'an error of its own may have done the work',
    'InternalError, or throttled after a retry.',
    'life',
    'a launch that AWS made and answered with trouble of its own',
  ),
  row(
    'a task goes on without its caller',
    'The disk is replaced later, by one without tags.',
    'kill',
    'restore, after which the mark is written again',
  ),
  row(
    'a snapshot may end in an error',
    'After the call that made it has ended.',
    'disks',
    'that AWS cannot make keeps its disk until the delete',
  ),
]
