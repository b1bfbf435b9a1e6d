//! Compiles one plugin: what `foreline compile-plugin` does, for programs that are not `foreline`.

fn main() -> std::process::ExitCode {
    foreline_plugins::compile_child_main()
}
