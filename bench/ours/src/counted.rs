use crate::arguments::Arguments;
pub(crate) fn run(_: Arguments) -> anyhow::Result<()> {
    Ok(())
}
