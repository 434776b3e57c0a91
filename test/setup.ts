/** Refuses to run on another Node than the one that is shipped for: its absence would go unnoticed otherwise. */
export default () => {
  const [major] = process.versions.node.split('.').map(Number)
  if (major !== 24)
    throw new Error(
      `The tests run on Node 24, and this is ${process.versions.node}. Run npm ci without --ignore-scripts.`,
    )
}
