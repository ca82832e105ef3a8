export async function writeTables() {}
