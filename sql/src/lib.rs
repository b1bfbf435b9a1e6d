//! foreline-sql.
